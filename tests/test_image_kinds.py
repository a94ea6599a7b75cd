"""Every kind of image and mask file that people have: read exactly, or refused in one true line."""

from __future__ import annotations

import io
import struct
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeseg.errors import DatasetError, ImageError, SourceError
from edgeseg.image_bytes import animation_length, exif_orientation, is_cut, kind_of, tiff_pages, tiff_tags
from edgeseg.images import IMAGE_SUFFIXES, FolderDataset, image_files, read_image, read_mask, read_pages, write_png
from edgeseg.runtime.sources import source_from_uri
from edgeseg.spec import ModelSpec
from tests.picture_writers import READS_BIG_TIFF, png, tiff, with_header

PICTURE = cv2.resize(np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8), (80, 64))


def with_orientation(suffix: str, orientation: int, order: str = ">") -> bytes:
    """PICTURE as a file whose EXIF says how it is to be turned."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.endian = order
    kept = io.BytesIO()
    how = {".webp": {"lossless": True}, ".jpg": {"quality": 95}}.get(suffix, {})
    form = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF"}[suffix]
    Image.fromarray(PICTURE[..., ::-1]).save(kept, form, exif=exif, **how)
    return kept.getvalue()


@given(
    bits=st.sampled_from([1, 2, 4, 8]),
    coloured=st.booleans(),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40)
def test_the_stored_samples_of_a_png_are_the_class_ids(
    tmp_path_factory: pytest.TempPathFactory, bits: int, coloured: bool, size: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 2**bits, size, dtype=np.uint8)
    palette = rng.integers(0, 256, 3 * 2**bits, dtype=np.uint8).tobytes()
    palette = bytes([200, 10, 10]) + palette[3:]  # not grey all over
    path = tmp_path_factory.mktemp("m") / "m.png"
    path.write_bytes(png(ids, bits, palette if coloured else b""))
    np.testing.assert_array_equal(read_mask(path), ids)


@pytest.mark.parametrize("mode", ["P", "1", "L"])
def test_masks_as_pillow_writes_them(tmp_path: Path, mode: str) -> None:
    """Pillow is what most tools write with; it is not asked to read here, so that the ids are known by themselves."""
    from PIL import Image

    ids = np.random.default_rng(1).integers(0, 2, (20, 30), dtype=np.uint8)
    picture = Image.fromarray(ids * 255).convert("1") if mode == "1" else Image.fromarray(ids, mode)
    if mode == "P":
        picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 759)
    for name in ("m.png", "m.tif", "m.bmp"):
        picture.save(tmp_path / name)
        if name == "m.png" or mode == "L":
            np.testing.assert_array_equal(read_mask(tmp_path / name), ids)
        else:
            with pytest.raises(ImageError, match=r"is a (TIFF|BMP) with a palette.*save it as PNG"):
                read_mask(tmp_path / name)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True] if READS_BIG_TIFF else [False])
def test_inverted_and_narrow_masks_are_refused(tmp_path: Path, big: bool, order: str) -> None:
    ids = np.array([[0, 1, 2, 255]], np.uint8)
    path = tmp_path / "m.tif"
    path.write_bytes(tiff([ids], big, order))
    np.testing.assert_array_equal(read_mask(path), ids)
    for narrow_or_inverted in ({"photometric": [0]}, {"bits": [1], "width": [32]}, {"bits": [4], "width": [8]}):
        path.write_bytes(tiff([ids], big, order, **narrow_or_inverted))
        with pytest.raises(ImageError, match="is a TIFF with a palette, inverted, or of fewer than 8 bits"):
            read_mask(path)


@given(
    kind=st.sampled_from([".png", "P.png", "1.png", ".tif", ".bmp", ".jpg", ".webp", ".gif"]),
    cut=st.none() | st.integers(0, 400),
    changes=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=3),
)
@settings(max_examples=300)
def test_damaged_files_are_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, kind: str, cut: int | None, changes: list[tuple[int, int]]
) -> None:
    from PIL import Image

    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8))
    picture = picture.convert(kind[0]) if kind[0] != "." else picture
    path = tmp_path_factory.getbasetemp() / f"damaged{kind}"
    picture.save(path)
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    path.write_bytes(data[:cut])
    for read in (read_image, read_mask):
        try:
            assert read(path).dtype == np.uint8
        except ImageError as error:
            assert "\n" not in str(error)


@settings(max_examples=60)
@given(
    quality=st.integers(5, 100),
    progressive=st.booleans(),
    restarts=st.sampled_from((0, 1, 7)),
    thumbnail=st.booleans(),
    behind=st.one_of(st.binary(max_size=40), st.sampled_from((b"\0" * 5000, b"\0\0\0\x18ftypmp42" + b"x" * 9000))),
    cut=st.floats(0, 0.999),
)
def test_a_jpeg_is_whole_whatever_a_phone_appends_and_cut_wherever_it_ends(
    quality: int, progressive: bool, restarts: int, thumbnail: bool, behind: bytes, cut: float
) -> None:
    """A motion photo has a film behind its picture, and a thumbnail within has an end mark of its own."""
    how = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    data = cv2.imencode(".jpg", PICTURE, [*how, cv2.IMWRITE_JPEG_RST_INTERVAL, restarts])[1].tobytes()
    if thumbnail:
        small = cv2.imencode(".jpg", PICTURE[::2, ::2], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(small)) + small + data[2:]
    assert not is_cut(data + behind)
    assert is_cut(data[: max(3, int(cut * len(data)))])


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize("channels", [3, 4])
def test_ids_that_were_saved_as_an_opaque_colour_picture(
    tmp_path: Path, suffix: str, channels: int, depth: type[np.generic]
) -> None:
    """All channels are the same, so there is one thing that they can mean."""
    if suffix == ".bmp" and (channels == 4 or depth is np.uint16):
        pytest.skip("there is no such BMP")
    ids = np.random.default_rng(1).integers(0, 7, (20, 30)).astype(depth)
    opaque = np.full_like(ids, np.iinfo(depth).max)
    path = tmp_path / f"mask{suffix}"
    cv2.imwrite(str(path), np.dstack([ids, ids, ids, opaque][:channels]))
    np.testing.assert_array_equal(read_mask(path, 7), ids)
    for channel in range(channels):
        other = np.dstack([ids, ids, ids, opaque][:channels])
        other[3, 4, channel] = 9
        cv2.imwrite(str(path), other)
        with pytest.raises(ImageError, match="one channel"):
            read_mask(path, 7)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
@pytest.mark.parametrize("name", ["é", "Straße Zürich", "한국", "ｶﾞ", "plain"])
def test_names_are_the_same_in_both_spellings_of_their_letters(
    pairs: Path, spec: ModelSpec, name: str, forms: tuple[str, str]
) -> None:
    """macOS writes letters with accents in two code points, and copies them so to other systems."""
    image, mask = (unicodedata.normalize(form, name) for form in forms)
    (pairs / "0.png").rename(pairs / f"{image}.png")
    (pairs.with_name("trainannot") / "0.png").rename(pairs.with_name("trainannot") / f"{mask}.png")
    assert all(sample.label is not None for sample in FolderDataset(pairs, spec=spec, need_labels=True))


def test_a_bit_depth_of_none_and_half_a_palette_are_refused(tmp_path: Path) -> None:
    """Found by the test above in some of its runs."""
    (tmp_path / "m.png").write_bytes(with_header(png(np.zeros((4, 4), np.uint8), 8), depth=0))
    cv2.imwrite(str(tmp_path / "whole.bmp"), np.zeros((4, 4), np.uint8))
    (tmp_path / "m.bmp").write_bytes((tmp_path / "whole.bmp").read_bytes()[:64])
    for name in ("m.png", "m.bmp"):
        with pytest.raises(ImageError, match=r"cannot be decoded|is a BMP with a palette"):
            read_mask(tmp_path / name)


def test_a_grey_palette_that_means_other_ids_is_refused(tmp_path: Path) -> None:
    """An optimiser turns the grey values 0, 2, 1 into indices in the order of their frequency."""
    ids = np.array([[0, 1, 2, 0]], np.uint8)
    path = tmp_path / "m.png"
    path.write_bytes(png(ids, 8, bytes([1, 1, 1, 0, 0, 0, 2, 2, 2])))
    with pytest.raises(ImageError, match=r"palette PNG whose entries \[0, 1, 2\] show the greys \[1, 0, 2\]"):
        read_mask(path)
    path.write_bytes(png(ids, 8, bytes(i for i in range(256) for _ in range(3))))
    np.testing.assert_array_equal(read_mask(path), ids)
    path.write_bytes(png(np.array([[0, 1]], np.uint8), 1, bytes([0, 0, 0, 255, 255, 255])))
    np.testing.assert_array_equal(read_mask(path), [[0, 1]])
    path.write_bytes(png(np.array([[0, 1]], np.uint8), 1, bytes([255, 255, 255, 0, 0, 0])))
    with pytest.raises(ImageError, match="either may be the class ids"):
        read_mask(path)


@pytest.mark.parametrize(("bits", "factor"), [(2, 85), (4, 17)])
def test_few_bits_whose_grey_is_a_class_too_are_refused(tmp_path: Path, bits: int, factor: int) -> None:
    """An optimiser stores the ids 0 and 17 in 4 bits, as 0 and 1: with 18 classes both are possible."""
    path = tmp_path / "m.png"
    path.write_bytes(png(np.array([[0, 1]], np.uint8), bits))
    assert read_mask(path, factor).tolist() == [[0, 1]]
    with pytest.raises(ImageError, match=f"samples 1 are also shown as the grey {factor}"):
        read_mask(path, factor + 1)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_masks_hold_ids_or_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    cv2.imwrite(str(path), np.array([[0, 3, 255]], np.uint16))
    assert read_mask(path).tolist() == [[0, 3, 255]] and read_mask(path).dtype == np.uint8
    cv2.imwrite(str(path), np.array([[0, 26001]], np.uint16))
    with pytest.raises(ImageError, match="values of 0 to 26001; class ids are 0-254"):
        read_mask(path)


@pytest.mark.parametrize("name", ["m.jpg", "m.png", "m.bmp"])
def test_a_jpeg_mask_is_refused_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes())
    with pytest.raises(ImageError, match="is a JPEG, whose compression changes class ids"):
        read_mask(path)


@pytest.mark.parametrize("compression", ["jpeg", "lossy WebP"])
def test_a_mask_with_another_lossy_compression_is_refused(tmp_path: Path, compression: str) -> None:
    ids = np.random.default_rng(0).integers(0, 4, (32, 48)).astype(np.uint8)
    image = pytest.importorskip("PIL.Image", reason="Pillow writes the file").fromarray(ids)
    path = tmp_path / ("m.tif" if compression == "jpeg" else "m.png")
    if compression == "jpeg":
        image.save(path, compression="jpeg")
    else:
        image.convert("RGB").save(path, "WEBP")
    with pytest.raises(ImageError, match="whose compression changes class ids"):
        read_mask(path)
    if compression == "jpeg":
        image.save(path, compression="tiff_lzw")
    else:
        image.convert("RGB").save(path, "WEBP", lossless=True)
    assert np.array_equal(read_mask(path), ids)


@pytest.mark.parametrize("content", [".png", ".jpg", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_the_content_counts_and_not_the_suffix(tmp_path: Path, suffix: str, content: str) -> None:
    path = tmp_path / f"a{suffix}"
    data = cv2.imencode(content, PICTURE)[1].tobytes()
    path.write_bytes(data)
    np.testing.assert_array_equal(read_image(path), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    for length in (0, 10, len(data) // 2, len(data) - 5):
        path.write_bytes(data[:length])
        with pytest.raises(ImageError, match=r"is truncated|cannot be decoded"):
            read_image(path)


@pytest.mark.parametrize("behind", [b"\0" * 200_000, b"\0\0\0\x18ftypmp42" + b"\xff\xd8\xff\xd9" * 50_000])
@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"exif": True}])
def test_what_stands_behind_a_jpeg_is_not_its_end(tmp_path: Path, behind: bytes, how: dict[str, bool]) -> None:
    """Phones put a video there, recorders fill their blocks."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x010E] = "a picture with an end: \xff\xd9"
    kept = io.BytesIO()
    Image.fromarray(PICTURE).save(kept, "JPEG", **{**how, **({"exif": exif} if how.get("exif") else {})})
    path = tmp_path / "a.jpg"
    path.write_bytes(kept.getvalue() + behind)
    assert read_image(path).shape == PICTURE.shape
    for length in (len(kept.getvalue()) // 2, len(kept.getvalue()) - 3):
        path.write_bytes(kept.getvalue()[:length] + b"\0" * 200_000)
        with pytest.raises(ImageError, match="is truncated"):
            read_image(path)


@given(bits=st.integers(9, 16), seed=st.integers(0, 100), suffix=st.sampled_from([".png", ".tif"]))
@settings(max_examples=30)
def test_sixteen_bit_images_are_bright_or_refused(
    tmp_path_factory: pytest.TempPathFactory, bits: int, seed: int, suffix: str
) -> None:
    """Cameras of 10, 12 and 14 bits store their values in 16 bits: read as 16 they are nearly black."""
    values = np.random.default_rng(seed).integers(0, 2**bits, (20, 30, 3)).astype(np.uint16)
    values[0, 0] = 2**bits - 1
    path = tmp_path_factory.mktemp("i") / f"a{suffix}"
    cv2.imwrite(str(path), values)
    if bits > 14:
        np.testing.assert_array_equal(read_image(path), values // 256)
    else:
        with pytest.raises(ImageError, match=f"16-bit samples of at most {2**bits - 1}, as of a .*save it with 8 bits"):
            read_image(path)


@given(
    pages=st.integers(1, 6),
    big=st.booleans() if READS_BIG_TIFF else st.just(False),
    order=st.sampled_from("<>"),
    deep=st.booleans(),
    thumbnails=st.sets(st.integers(0, 5)),
)
@settings(max_examples=25)
def test_every_page_of_a_tiff_is_a_picture(
    tmp_path_factory: pytest.TempPathFactory, pages: int, big: bool, order: str, deep: bool, thumbnails: set[int]
) -> None:
    path = tmp_path_factory.mktemp("t") / "a.tif"
    levels = [70 + 30 * page for page in range(pages)]
    small = [page in thumbnails and page > 0 for page in range(pages)]
    shown = [level for level, is_small in zip(levels, small) if not is_small]
    pictures = [
        np.full((6, 8), level * 256, np.uint16) if deep else np.full((6, 8, 3), level, np.uint8) for level in levels
    ]
    path.write_bytes(tiff(pictures, big, order, subfile=list(map(int, small))))
    assert len(tiff_pages(path.read_bytes())) == len(shown)
    assert [int(page.mean()) for page in read_pages(path)] == shown
    if len(shown) == 1:
        assert int(read_image(path).mean()) == shown[0]
    else:
        for read in (read_image, read_mask):
            with pytest.raises(ImageError, match=f"is a TIFF of {len(shown)} pages, of which one would be read"):
                read(path)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
@pytest.mark.parametrize("pictures", [1, 2, 7])
def test_an_animation_is_no_picture(tmp_path: Path, name: str, pictures: int) -> None:
    from PIL import Image

    path = tmp_path / name
    frames = [Image.fromarray(np.full((6, 8, 3), 30 * number, np.uint8)) for number in range(pictures)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    assert animation_length(path.read_bytes()) == pictures
    called = tmp_path / "a.bmp"
    path.rename(called)
    for read in (read_image, lambda path: next(read_pages(path))):
        if pictures > 1:
            with pytest.raises(ImageError, match=f"is an animation of {pictures} pictures.*save each as a file"):
                read(called)
        elif name != "a.gif":  # which older OpenCV does not read
            assert read(called).max() == 0
    if name == "a.gif":
        called.rename(path)
        with pytest.raises(SourceError, match=r"neither an image nor a video.*ffmpeg -i a.gif a-%04d.png"):
            source_from_uri(str(path))


def test_a_black_sixteen_bit_image_is_black(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint16))
    assert read_image(tmp_path / "a.png").max() == 0


def test_floating_point_samples_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.tif"), np.full((4, 4, 3), 0.5, np.float32))
    # OpenCV 4 writes them as logarithms.
    with pytest.raises(ImageError, match="range is not known.*save it with 8 bits|more than 8 bits that are neither"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientation_is_found_in_every_kind_of_file(suffix: str, order: str, orientation: int) -> None:
    assert exif_orientation(with_orientation(suffix, orientation, order)) == orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_pictures_are_shown_upright_by_every_version_of_opencv(tmp_path: Path, suffix: str, orientation: int) -> None:
    """OpenCV 4.5, of which boards have the like, turns no WebP; Pillow turns for comparison."""
    from PIL import Image, ImageOps

    path = tmp_path / f"a{suffix}"
    path.write_bytes(with_orientation(suffix, orientation))
    with Image.open(path) as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored))[..., ::-1]
    shown = read_image(path)
    assert shown.shape == upright.shape
    assert np.abs(shown.astype(int) - upright).mean() < 3  # decoders of JPEG differ a little


@given(
    st.binary(max_size=400),
    st.sampled_from(
        [
            b"",
            b"II*\0",
            b"MM\0*",
            b"\xff\xd8\xff\xe1",
            b"\x89PNG\r\n\x1a\n",
            b"BM",
            b"GIF89a",
            b"MM\0+",
            b"RIFF\0\1\0\0WEBP",
        ]
    ),
)
def test_damaged_bytes_have_no_orientation_and_no_traceback(data: bytes, start: bytes) -> None:
    assert 1 <= exif_orientation(start + data) <= 8
    tiff_tags(start + data)
    assert animation_length(start + data) >= 0 and len(tiff_pages(start + data)) >= 0
    kind_of(start + data)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("drawn_on", ["stored", "shown"])
def test_a_turned_picture_is_paired_only_where_sizes_prove_it(
    tmp_path: Path, spec: ModelSpec, orientation: int, drawn_on: str
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "aannot").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(with_orientation(".jpg", orientation))
    height, width = PICTURE.shape[:2]
    turned = orientation >= 5 and drawn_on == "shown"
    write_png(tmp_path / "aannot" / "x.png", np.zeros((width, height) if turned else (height, width), np.uint8))
    data = FolderDataset(tmp_path / "a", spec=spec, need_labels=True)
    if orientation == 1 or turned:
        assert data[0].label is not None and data[0].label.shape == data[0].frame.shape[:2]
    else:
        with pytest.raises(ImageError, match=f"EXIF orientation {orientation} and its mask.*exiftool.*mogrify"):
            data[0]
    assert FolderDataset(tmp_path / "a")[0].label is None, "without masks a turned picture is read"


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png"])
def test_photos_in_avif_under_another_name_are_refused(tmp_path: Path, name: str) -> None:
    pillow = pytest.importorskip("PIL", reason="Pillow writes the file")
    if not pytest.importorskip("PIL.features").check("avif"):
        pytest.skip(f"Pillow {pillow.__version__} writes no AVIF")
    from PIL import Image

    turned = Image.Exif()
    turned[0x112] = 6
    Image.new("RGB", (64, 48), "red").save(tmp_path / "photo.avif", exif=turned)
    (tmp_path / "photo.avif").rename(tmp_path / name)
    with pytest.raises(ImageError, match=f"{name} is HEIF or AVIF by its content"):
        read_image(tmp_path / name)


def test_hidden_files_of_a_mac_are_left_out_and_said(pairs: Path, spec: ModelSpec) -> None:
    for folder in (pairs, pairs.with_name("trainannot")):
        for path in list(folder.iterdir()):
            (folder / f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(200))
    data = FolderDataset(pairs, spec=spec, need_labels=True)
    assert [data[i].name for i in range(len(data))] == ["0", "1", "2", "3"]
    assert data.description.endswith("(4 hidden files left out)") and len(image_files(pairs)) == 4


def test_a_missing_mask_says_what_is_there_instead(pairs: Path, spec: ModelSpec) -> None:
    masks = pairs.with_name("trainannot")
    for name, seen in (
        ("{}.jpg", "there is 0.jpg, compression changes class ids: masks are read from .png"),
        ("{}.gif", "there is 0.gif, masks are read from .png"),
        ("{}_other.png", "the folder holds 0_other.png; a mask has the name of its image"),
    ):
        for path in list(masks.iterdir()):
            path.rename(masks / name.format(path.stem[0]))
        with pytest.raises(DatasetError, match=f"4 of 4 images have no mask in .*{seen}"):
            FolderDataset(pairs, spec=spec, need_labels=True)
    masks.rename(pairs.with_name("labels"))
    with pytest.raises(
        DatasetError, match="there is no folder trainannot beside labels, train; masks are in NAMEannot"
    ):
        FolderDataset(pairs, spec=spec, need_labels=True)


@pytest.mark.parametrize("masks", ["masks", "labels"])
def test_images_with_masks_beside_them_are_given_by_either_folder(pairs: Path, spec: ModelSpec, masks: str) -> None:
    images = pairs.rename(pairs.with_name("images"))
    images.with_name("trainannot").rename(images.with_name(masks))
    for folder in (images, images.parent):
        assert FolderDataset(folder, spec=spec, need_labels=True).has_labels


@pytest.mark.parametrize("suffix", [".jpg", ".PNG", ".tif"])
def test_two_images_of_one_mask_are_refused(pairs: Path, spec: ModelSpec, suffix: str) -> None:
    (pairs / f"1{suffix}").write_bytes(cv2.imencode(suffix.lower(), np.zeros((64, 96, 3), np.uint8))[1].tobytes())
    with pytest.raises(DatasetError, match=r"1\.\w+ and .*1\.\w+ would share the mask .*1\.png; keep the right one"):
        FolderDataset(pairs, spec=spec, need_labels=True)
    (pairs.with_name("trainannot") / "1.png").unlink()
    assert len(FolderDataset(pairs, spec=spec)) == 5, "images without a mask may share a name"


def test_two_masks_of_one_image_are_refused(pairs: Path, spec: ModelSpec) -> None:
    cv2.imwrite(str(pairs.with_name("trainannot") / "1.tif"), np.zeros((64, 96), np.uint8))
    with pytest.raises(DatasetError, match=r"1\.png and .*1\.tif are masks of one image"):
        FolderDataset(pairs, spec=spec, need_labels=True)


def test_images_and_labels_in_one_folder(pairs: Path, spec: ModelSpec) -> None:
    root = pairs.with_name("set")
    root.mkdir()
    pairs.rename(root / "images")
    pairs.with_name("trainannot").rename(root / "labels")
    data = FolderDataset(root, spec=spec, need_labels=True)
    assert len(data) == 4 and data[0].label is not None
    (root / "labels").rename(pairs)
    assert FolderDataset(root, spec=spec)[0].label is None, "pictures to calibrate on need no masks"
    with pytest.raises(DatasetError, match="4 of 4 images have no mask .*or in masks beside images"):
        FolderDataset(root, spec=spec, need_labels=True)
    pairs.rename(root / "labels")
    (root / "masks").mkdir()
    assert FolderDataset(root, spec=spec, need_labels=True).has_labels, "an empty folder takes no part"
    write_png(root / "masks" / "0.png", np.zeros((64, 96), np.uint8))
    with pytest.raises(DatasetError, match=r"holds both labels and masks; .* say which: data://.*labels=NAME"):
        FolderDataset(root, spec=spec, need_labels=True)


@pytest.mark.parametrize("brand", [b"isom", b"mp42", b"qt  ", b"M4V ", b"3gp5"])
def test_a_video_that_is_called_a_picture_is_no_heif(tmp_path: Path, brand: bytes) -> None:
    path = tmp_path / "video.png"
    path.write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0" * 5000)
    with pytest.raises(ImageError, match="its content is MP4"):
        read_image(path)
