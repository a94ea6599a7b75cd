"""A model of ncnn, made by pnnx and run by ncnn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeseg.app.export_config import ExportNcnnConfig
from edgeseg.app.export_graph import export_ncnn
from edgeseg.app.shipped import SHIPPED
from edgeseg.bundle import GraphEntry, write_bundle
from edgeseg.class_list import classes_from
from edgeseg.errors import EngineError, ForeignFileError, GateRefused, MissingDependencyError
from edgeseg.recipes import Fp32
from edgeseg.serving.ncnn_model import ncnn_class_maps, ncnn_files
from tests.cli.test_cli import edgeseg, refused
from tests.engines.tensorrt.tiny import tiny_bundle, tiny_onnx

HERE = "pnnx and ncnn are not installed (pip install 'edgeseg[ncnn]')"


def converted(folder: Path, **changes: object) -> ExportNcnnConfig:
    bundle = tiny_bundle()
    write_bundle(replace(bundle, graphs={"fp32": GraphEntry(tiny_onnx(**changes), Fp32())}), folder / "m.edgeseg")  # type: ignore[arg-type]
    return ExportNcnnConfig(folder / "m.edgeseg", folder=folder / "out")


class TestConverted:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("ncnn", reason=HERE)
        pytest.importorskip("pnnx", reason=HERE)

    @pytest.mark.parametrize("changes", [{}, {"stride": 2}, {"batch": 2}, {"scores": True}])
    def test_graphs_of_every_kind_keep_their_classes(self, tmp_path: Path, changes: dict[str, object]) -> None:
        assert export_ncnn(converted(tmp_path, **changes)).agreement > 0.99

    def test_the_shipped_model_keeps_its_classes(self, tmp_path: Path) -> None:
        done = export_ncnn(ExportNcnnConfig(SHIPPED, folder=tmp_path / "out"))
        assert done.agreement > 0.9995 and done.frames == 4
        assert done.files == ("model.ncnn.param", "model.ncnn.bin", "classes.txt")
        assert (tmp_path / "out" / "model.ncnn.param").read_bytes().startswith(b"7767517\n")
        assert classes_from(str(tmp_path / "out" / "classes.txt"))[0][:2] == ["sky", "building"]

    def test_other_classes_are_refused_and_nothing_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import edgeseg.app.export_graph as module

        monkeypatch.setattr(module, "ncnn_class_maps", lambda files, frames: ncnn_class_maps(files, frames[..., ::-1]))
        with pytest.raises(GateRefused, match="the model of ncnn gives .* nothing was written"):
            export_ncnn(converted(tmp_path))
        assert not (tmp_path / "out").exists()

    def test_nobodys_file_is_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "model.ncnn.bin").write_text("mine")
        with pytest.raises(ForeignFileError, match="model.ncnn.bin is there"):
            export_ncnn(converted(tmp_path))
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.ncnn.bin"]

    def test_what_pnnx_cannot_read_is_one_line(self) -> None:
        with pytest.raises(EngineError, match="pnnx cannot convert the graph: "):
            ncnn_files(b"no graph", (32, 48))

    def test_the_command(self, tmp_path: Path) -> None:
        write_bundle(tiny_bundle(), tmp_path / "tiny.edgeseg")
        done = edgeseg("export", "ncnn", "tiny.edgeseg", "out", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "wrote out for ncnn: model.ncnn.param, model.ncnn.bin, classes.txt" in done.stdout
        assert "golden frames have the class of the bundle's graph fp32" in done.stdout


def test_without_the_packages_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pnnx", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgeseg\[ncnn\]'"):
        export_ncnn(converted(tmp_path))
    assert "gone.edgeseg" in refused("export", "ncnn", "gone.edgeseg", "out", cwd=tmp_path)
