"""The 3D layout editor in a page of the real front end: one page for classic nodes and one for Nodes 2.0, kept open."""

import itertools
import json
import math
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NODE = "SightlineLayoutEditor"
PACK = "ComfyUI-Sightline"
TIPS = "Sightline.LayoutEditor.Tips"
NUMBER = itertools.count(1)
READY = f"""() => Boolean(
    window.app?.graph?.nodes.length && app.extensionManager?.setting && LiteGraph.registered_node_types.{NODE}
)"""
ADD = """([type, text, pos]) => {
    const node = LiteGraph.createNode(type);
    app.graph.add(node);
    node.pos = pos;
    if (text) node.widgets.find((w) => w.name === "scene").value = text;
    return node.id;
}"""
NO_WEBGL = """
const get = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    return String(kind).startsWith("webgl") ? null : get.call(this, kind, ...rest);
};"""
PAGES = {"classic": {}, "nodes2": {"nodes2": True}, "simple": {"script": NO_WEBGL}}
EDITOR = "const e = __sightline.editor(id);"
PIXELS = (
    "const d = e.view.base.getContext('2d').getImageData(0, 0, e.view.base.width, e.view.base.height).data;"
    "let h = 0; for (let i = 0; i < d.length; i += 4) h = (h * 31 + d[i] * 7 + d[i + 1] * 3 + d[i + 2]) % 1000003;"
    "return h"
)
DROP = """
const t = new DataTransfer();
t.items.add(new File([Uint8Array.from(a.data)], a.name, { type: a.type }));
const on = a.on ? e.root.querySelector(a.on) : e.view.root;
for (const kind of ["dragover", "drop"])
    on.dispatchEvent(new DragEvent(kind, { dataTransfer: t, bubbles: true, cancelable: true, clientX: 1, clientY: 1 }));
"""


def box(name, position=(0, 0, 0), size=(1, 1, 1), yaw=0, **more):
    return {"id": name, "prompt": name, "position": list(position), "size": list(size), "yaw_deg": yaw, **more}


def scene(*objects, elevation=20.0, lens=50.0, **more):
    """A scene text with the reference's camera."""
    orbit = {"target": [0, 0, 0], "azimuth_deg": 0, "elevation_deg": elevation, "distance": 6}
    camera = {"id": "cam1", "orbit": orbit, "lens_mm": lens, "roles": ["control"]}
    document = {"format": "sightline.scene", "version": 1, "id": f"test-{next(NUMBER)}", "cameras": [camera]}
    return json.dumps(document | {"active_camera": "cam1", "objects": list(objects)} | more)


def of_golden(path: Path, lights=True) -> str:
    """A recorded layout of the reference as our text."""
    found = json.loads(path.read_text("utf-8"))
    layout = found.get("scene", found)
    objects = [
        box(f"obj{i + 1}", (o["x"], o["y"], o["z"]), o["dims"], o.get("azimuth", 0)) | {"prompt": o["name"]}
        for i, o in enumerate(layout["objects"])
    ]
    output = {"size": [1024, 1024]}
    if lights and "light_positions" in found:
        output["render"] = {"light_positions": [[x + 6, y, z] for x, y, z in found["light_positions"]]}
    camera = layout["camera"]
    return scene(
        *objects, elevation=math.degrees(camera["camera_elevation"]), lens=camera["lens"], output=output,
        prompt={"background": layout.get("surrounding_prompt", "")},
    )  # fmt: skip


class LayoutPage:
    """One open page; `fresh` begins a test with a new node."""

    def __init__(self, page, errors):
        self.page, self.errors, self.id = page, errors, None
        self.mouse, self.keys = page.mouse, page.keyboard

    def fresh(self, text="", scale=1.0, pos=(80, 60)):
        """An empty graph with one editor that shows `text`."""
        page = self.page
        page.bring_to_front()
        page.evaluate("() => { document.querySelectorAll('dialog[open]').forEach((d) => d.close()); }")
        page.evaluate("() => { app.graph.clear(); app.canvas.ds.offset = [60, 0]; }")
        self.id = self.add(text, pos)
        page.evaluate("(s) => { app.canvas.ds.scale = s; app.canvas.setDirty(true, true); }", scale)
        self.wait_for("return e.view.width > 10 && e.root.isConnected")
        if text:
            self.wait_for("return e.store.scene.objects.length > 0 || e.store.problem !== null")
        self.settle()
        return self

    def add(self, text="", pos=(80, 60)):
        identity = self.page.evaluate(ADD, [NODE, None, list(pos)])
        self.page.wait_for_function("(id) => __sightline.editor(id) !== null", arg=identity)
        if text:
            self.page.evaluate(
                "([id, t]) => { app.graph.getNodeById(id).widgets[0].value = t; __sightline.editor(id).load(); }",
                [identity, text],
            )
        return identity

    def ed(self, body, argument=None, node=None):
        """Run `body` with the editor as `e` and the argument as `a`."""
        return self.page.evaluate(f"([id, a]) => {{ {EDITOR} {body} }}", [node or self.id, argument])

    def wait_for(self, body, argument=None, node=None, timeout=60_000):
        self.page.wait_for_function(
            f"([id, a]) => {{ {EDITOR} if (!e) return false; {body} }}", arg=[node or self.id, argument],
            timeout=timeout,
        )  # fmt: skip

    def settle(self):
        """Two frames: what was changed is drawn."""
        self.page.evaluate("() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r())))")

    def doc(self, node=None):
        """The scene in the widget; {} while it is empty."""
        text = self.text(node)
        return json.loads(text) if text else {}

    def text(self, node=None):
        return self.page.evaluate("(id) => app.graph.getNodeById(id).widgets[0].value", node or self.id)

    def object(self, i=0):
        return self.doc()["objects"][i]

    def locate(self, css):
        return self.page.locator(f".sightline-editor {css}")

    def client(self, x, y):
        """Viewport pixels -> page pixels."""
        r = self.ed("const r = e.view.root.getBoundingClientRect(); return [r.left, r.top, r.width / e.view.width]")
        return r[0] + x * r[2], r[1] + y * r[2]

    def grip(self, name):
        """Where a handle of the gizmo is taken hold of, page pixels."""
        self.wait_for("return e.view.shapes.some((s) => s.name === a)", name)
        return self.client(*self.ed("return e.view.shapes.find((s) => s.name === a).grip.slice(0, 2)", name))

    def point(self, x, y, z):
        """A point of the world on the page."""
        return self.client(*self.ed(
            "const c = e.view.camera(), q = a.map((v, i) => v - c.position[i]);"
            "const d = (u) => u[0] * q[0] + u[1] * q[1] + u[2] * q[2];"
            "const z = d(c.forward); return [c.cx + c.focal * d(c.right) / z, c.cy - c.focal * d(c.up) / z]", [x, y, z]
        ))  # fmt: skip

    def middle(self, i=0):
        """The middle of a box on the page."""
        o = json.loads(self.ed("return e.store.text()"))["objects"][i]
        x, y, z = o["position"]
        return self.point(x, y, z + o["size"][2] / 2)

    def empty(self):
        """A place of the viewport with nothing under it: near the upper left corner."""
        return self.client(24, 24)

    def drag(self, start, end, steps=6, button="left", hold=()):
        self.mouse.move(*start)
        for key in hold:
            self.keys.down(key)
        self.mouse.down(button=button)
        self.mouse.move(*end, steps=steps)
        self.mouse.up(button=button)
        for key in hold:
            self.keys.up(key)
        self.settle()

    def by(self, start, dx, dy, **more):
        self.drag(start, (start[0] + dx, start[1] + dy), **more)

    def select(self, *names):
        self.ed("e.store.select(a)", list(names))
        self.settle()

    def focus(self):
        self.ed("e.view.root.focus()")

    def press(self, *keys):
        self.focus()
        for key in keys:
            self.keys.press(key)
        self.settle()

    def nudge(self, axis, by, node=None):
        """Move the first box, as one step."""
        self.ed(
            "e.store.select([e.store.scene.objects[0].id]); e.actions.nudge(...a); e.store.commit('Move')",
            [axis, by], node,
        )  # fmt: skip

    def reload(self):
        self.page.goto("about:blank")  # the host keeps the place of a subgraph in the address, without our query
        self.page.goto(self.address)
        self.page.wait_for_function(READY)

    def commits(self):
        return self.page.evaluate("async () => (await __sightline.load()).hooks.counters.commits")

    def hooks(self, name, *arguments):
        return self.page.evaluate(
            "async ([name, a]) => (await __sightline.load()).hooks[name](...a)", [name, list(arguments)]
        )

    def setting(self, name, value):
        """Change one of the host's settings in the open page."""
        self.page.evaluate("([k, v]) => app.extensionManager.setting.set(k, v)", [name, value])
        self.settle()

    def pixels(self):
        """A number that stands for the picture in the viewport."""
        return self.ed(PIXELS)

    def drop(self, name, data: bytes, kind="", on=None):
        """Drop a file on the viewport, or on an element of the editor."""
        self.ed(DROP, {"name": name, "data": list(data), "type": kind, "on": on})

    def counters(self):
        return self.page.evaluate("async () => ({ ...(await __sightline.load()).hooks.counters })")

    def until(self, script, arg=None, seconds=10):
        """Wait until an async function gives true; to playwright's `wait_for_function` its promise is true at once."""
        for _ in range(10 * seconds):
            if self.page.evaluate(script, arg):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"after {seconds} s still not: {script}")


@contextmanager
def opened(chromium, server, nodes2=False, locale="en", theme="dark", script=None, tips=3):
    """A page with the test hooks on; no error of it may name our files. `tips`: how many were seen before."""
    settings = {"Comfy.VueNodes.Enabled": nodes2, "Comfy.Locale": locale, "Comfy.TutorialCompleted": True}
    server.post("/settings", settings | {"Comfy.Minimap.Visible": False, "Comfy.ColorPalette": theme, TIPS: tips})
    page = chromium.new_page(viewport={"width": 1500, "height": 900})
    page.set_default_timeout(60_000)
    if script:
        page.add_init_script(script)
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(f"{error}\n{error.stack}"))
    page.on("request", lambda request: requests.append(request.url))
    page.on(
        "console",
        lambda said: (
            said.type == "error"
            and PACK in f"{said.text} {said.location.get('url')}"
            and errors.append(f"{said.text} ({said.location.get('url')})")
        ),
    )
    try:
        page.goto(f"{server.url}/?sightline_test=1")
        page.wait_for_function(READY)
        found = LayoutPage(page, errors)
        found.requests, found.address = requests, f"{server.url}/?sightline_test=1"
        yield found
        assert not errors, "\n".join(errors)
    finally:
        page.close()
