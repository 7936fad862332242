"""Flattens patches of a surface with xatlas, in a process of its own: jobs on stdin, results on stdout.

Started by file, so that neither this package nor its host is imported. Everything is little-endian:
job: int64 number (below 0 ends), vertices, faces; float64 texels per unit; float32 [V, 3]; int32 [F, 3].
result: int64 number, vertices, or -1 and the length of an error text; int32 source [V'] and chart [V']; int32 [F, 3];
float32 uv [V', 2].
"""

import os
import struct
import sys


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]  # our neighbors are no modules
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to stderr
    import numpy as np
    import xatlas

    def read(count):
        data = sys.stdin.buffer.read(count)
        if len(data) != count:
            raise SystemExit
        return data

    while True:
        number, vertices, faces = struct.unpack("<qqq", read(24))
        if number < 0:
            return
        (density,) = struct.unpack("<d", read(8))
        place = np.frombuffer(read(12 * vertices), "<f4").reshape(-1, 3)
        corner = np.frombuffer(read(12 * faces), "<i4").reshape(-1, 3)
        try:
            atlas = xatlas.Atlas()
            atlas.add_mesh(place, corner.astype(np.uint32))
            packing = xatlas.PackOptions()
            packing.texels_per_unit = density
            packing.rotate_charts = packing.rotate_charts_to_axis = packing.bruteForce = False
            atlas.generate(xatlas.ChartOptions(), packing)
            source, index, uv = atlas.get_mesh(0)
            _, chart = atlas.get_mesh_vertex_assignment(0)
            if len(index) != faces:
                raise ValueError("it lost faces")
            uv = uv * np.array([atlas.width, atlas.height], np.float32)
            parts = [a.astype(t).tobytes() for a, t in ((source, "<i4"), (chart, "<i4"), (index, "<i4"), (uv, "<f4"))]
            out.write(struct.pack("<qq", number, len(source)) + b"".join(parts))
        except Exception as error:
            text = str(error).encode()[:500]
            out.write(struct.pack("<qqq", number, -1, len(text)) + text)
        out.flush()


if __name__ == "__main__":
    main()
