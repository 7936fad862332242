"""Print what ComfyUI gets to know about every node, as JSON: ``python describe_nodes.py COMFYUI_TREE BASE_FOLDER``.

Run as a program of its own, since ComfyUI's modules (`nodes`, `server`, `utils`, ...) do not mix with other tests.
"""

import asyncio
import inspect
import json
import sys

if __name__ == "__main__":
    tree, base = sys.argv[1:]
    sys.path.insert(0, tree)
    sys.argv = ["main.py", "--cpu", "--base-directory", base]
    import comfy.options

    comfy.options.enable_args_parsing()
    import sightline

    extension = asyncio.run(sightline.comfy_entrypoint())
    asyncio.run(extension.on_load())
    described = {}
    for node in asyncio.run(extension.get_node_list()):
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
    print("DESCRIBED " + json.dumps(described))
