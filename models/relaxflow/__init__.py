"""RelaxFlow: two conditions, one flow; what is seen follows the picture, what is hidden follows the priors."""
