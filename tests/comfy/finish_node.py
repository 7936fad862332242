"""Run Mesh Finish on a ragged batch and on what it refuses: ``python finish_node.py COMFYUI_TREE BASE_FOLDER``.

Judged by `test_finish_node.py`.
"""

from inside_comfyui import answer, enter, our_nodes


def main() -> None:
    enter()
    nodes = our_nodes()
    import torch
    from comfy_api.latest import Types

    from sightline.cli.bench.unwrap import bumpy_body

    finish = nodes["SightlineMeshFinish"].execute
    settings = (300, 1.0, 1e-4, True, 0, 0.9, True, 1e-5, True, True)
    said: dict = {}
    with torch.inference_mode():  # as the host runs nodes
        items = [bumpy_body(8), bumpy_body(4)]
        items[0] = items[0][0], items[0][1][5:]
        pad = torch.nn.utils.rnn.pad_sequence
        counts = [torch.tensor([len(one) for one in both]) for both in zip(*items)]
        vertices, faces = (pad(list(both), batch_first=True) for both in zip(*items))

        def mesh(vertices=vertices, faces=faces, counts=counts, **more):
            return Types.MESH(vertices, faces.int(), vertex_counts=counts[0], face_counts=counts[1], **more)

        given = mesh(vertex_colors=(vertices + 0.5).clamp(0, 1))
        before = given.vertices.clone()
        out, report = finish(given, *settings).args
        said["untouched"] = bool(torch.equal(before, given.vertices))
        said["faces"], said["report"] = out.face_counts.tolist(), report
        alone = Types.MESH(items[1][0][None], items[1][1].int()[None])
        solo = finish(alone, *settings).args[0]
        said["same as alone"] = bool(
            torch.equal(out.vertices[1, : int(out.vertex_counts[1])], solo.vertices[0])
            and torch.equal(out.faces[1, : int(out.face_counts[1])], solo.faces[0])
        )
        said["normals"] = [list(out.normals.shape), list(out.vertex_colors.shape)]
        said["refused"] = {}
        for name, broken in {
            "no faces": mesh(counts=[counts[0], torch.tensor([0, 192])]),
            "not finite": mesh(vertices * torch.nan),
            "out of range": mesh(faces=faces + 10000),
            "no area": mesh(vertices * 0),
        }.items():
            try:
                finish(broken, *settings)
            except ValueError as error:
                said["refused"][name] = str(error)
    answer(said)


if __name__ == "__main__":
    main()
