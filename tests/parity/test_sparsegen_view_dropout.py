"""Which views a training step keeps and renders."""

from sightline.training.sparsegen.view_dropout import drop_views

SYSTEM, KIND, SUFFIX = "sparsegen", "view_dropout", ".json"


def test_cases(fixture, ledger):
    options = fixture.json("config.json")["cfg"]["optimization"]
    cases = fixture.json()
    assert cases
    for case in cases:
        keep, render = drop_views(
            case["num_clean"],
            case["num_views"],
            case["u"],
            case["rand_start"],
            drop_all_clean=options["hard_mining_proportion"],
            noisy_dropout=options["noisy_dropout_proportion"],
            penalize=case["penalize"],
        )
        ledger.exact("view_dropout", keep, case["keep"])
        ledger.exact("view_dropout", render, case["render"])
