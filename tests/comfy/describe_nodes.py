"""Print what ComfyUI gets to know about every node, as JSON: ``python describe_nodes.py COMFYUI_TREE BASE_FOLDER``."""

import inspect

from inside_comfyui import answer, enter, our_nodes

if __name__ == "__main__":
    enter()
    described = {}
    for node in our_nodes().values():
        schema = node.GET_SCHEMA()
        info = node.GET_NODE_INFO_V1()
        described[schema.node_id] = info | {
            "template_inputs": [
                {"id": inner.id, "tooltip": inner.tooltip}
                for entry in schema.inputs
                if hasattr(entry, "template")
                for inner in [entry.template.input]
            ],
            "execute": list(inspect.signature(node.execute).parameters),
            "validate": list(inspect.signature(node.validate_inputs).parameters),
            "doc": node.__doc__,
        }
    answer(described)
