"""Local copies of the benchmarks in every form are read, and bad ones are refused by name."""

from __future__ import annotations

import base64
import json

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.build.questions import TYPES
from training.evaluate.benchmarks import open_benchmark
from training.evaluate.items import BenchmarkError
from training.evaluate.judges import rules_judge
from training.evaluate.official import official
from training.evaluate.references import reference_of, type_of
from training.evaluate.score import strict

RGB = np.full((60, 80, 3), (30, 60, 90), np.uint8)
PNG = bytes(cv2.imencode(".png", RGB[..., ::-1])[1])
IMAGE = {"bytes": PNG, "path": None}


def turns(question, answer):
    return [
        {"from": "human", "value": f"<image>\n{question}"},
        {"from": "gpt", "value": answer},
    ]


#: raw type, question, reference answer, a right answer
MSMU = [
    ("zero", "What is the size of the pipe?", "No pipe in the scene.", "There is no pipe."),
    ("count", "How many chairs are there in the image ?", "2.", "Two chairs."),
    ("width", "What is the width of the desk?", "The width  of the desk is 99.2 cm.", "1 m"),
    ("position", "What is the coordinate of the black TV ?", "(0.72,0.28).", "(0.7,0.3)"),
    ("position", "What object is located at (0.97,0.6)?", "the brown cabinet.", "brown cabinet"),
    ("left/right", "Is the bed to the left of the rug ?", "Yes, the bed is to the left.", "Yes"),
    ("distance", "What is the distance between the bed and the lamp?", "It is 0.94 m.", "0.9 m"),
    ("taller_two_object", "Which one is lower, the stool or the desk?", "so the stool is lower.",
     "The stool."),
    ("refer_two_objects", "The width of the desk is 1.07 m, what is the width of the chair?",
     "Since the width of the desk is 1.07 m, i think the width of the chair is 0.33 m.", "0.3 m"),
]  # fmt: skip


def msmu_row(form, raw, question, answer):
    said = turns(question, answer)
    return {
        "base64": {"image_base64": base64.b64encode(PNG).decode(), "image_size": [80, 60],
                   "image_mode": "RGB", "conversations": said, "type": raw},
        "text": {"image": IMAGE, "conversations": str(said)},  # this form stores no type
        "lists": {"image": IMAGE, "conversations": said, "type": raw},
    }[form]  # fmt: skip


@pytest.mark.parametrize("form", ["base64", "text", "lists"])
def test_msmu_bench_is_read_in_all_three_schemas_with_the_types_of_the_scorer(tmp_path, form):
    rows = [msmu_row(form, *row[:3]) for row in MSMU]
    table = pa.Table.from_pylist(rows)
    if form == "text":
        file = tmp_path / "test" / "data-00000-of-00001.arrow"
        file.parent.mkdir()
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, tmp_path / "test.parquet")
        pq.write_table(table.slice(0, 1), tmp_path / "train.parquet")  # not the benchmark
    benchmark = open_benchmark("msmu", tmp_path)
    pictures = list(benchmark.pictures())
    items = [item for picture in pictures for item in picture.items]
    assert benchmark.size == (None if form == "text" else len(MSMU))
    assert {item.type for item in items} == set(TYPES)
    assert all(picture.frame.rgb.shape == (60, 80, 3) for picture in pictures)
    assert len({item.key for item in items}) == len(items) == len(MSMU)
    for item, (*_, right) in zip(items, MSMU, strict=True):
        judgement = rules_judge(item, right)
        assert official(item.rule, judgement).correct, (item, judgement)
        assert strict(item.rule, judgement).correct, (item, judgement)
        wrong = rules_judge(item, "It is 7 km, over there.")
        assert not official(item.rule, wrong).correct, (item, wrong)


def test_an_unknown_type_is_refused_with_file_and_row(tmp_path):
    rows = [msmu_row("lists", *MSMU[0][:3]), msmu_row("lists", "weight", *MSMU[1][1:3])]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    with pytest.raises(BenchmarkError, match=r"test\.parquet, row 1: unknown type 'weight'"):
        list(open_benchmark("msmu", tmp_path).pictures())


def test_a_reference_that_cannot_be_read_leaves_a_question_that_no_answer_gets_right(tmp_path):
    row = msmu_row("lists", "width", "What is the width of the desk?", "Rather wide.")
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "test.parquet")
    ((item,),) = [p.items for p in open_benchmark("msmu", tmp_path).pictures()]
    assert item.reference is None
    assert not strict(item.rule, rules_judge(item, "1 m")).correct


def test_every_generated_reference_is_parsed_to_its_original_value():
    pytest.importorskip("training.simulate.catalogue", reason="mujoco is absent (train.txt)")
    from training.build.phrasing import METRIC, MSMU
    from training.build.questions import ask_all, named_view

    objects = [
        {"category": name.split()[-1], "label": name.split()[-1], "name": name, "unnamed": "",
         "instance": number, "visible_pixels": 5000, "length_m": 0.4 + number, "width_m": 0.35,
         "height_m": 0.5 + number / 3, "centre_uv": [0.1 + number / 5, 0.42],
         "centre_camera_m": [number * 0.7, 0.1, 2.0 + number], "centre_world_m": [0, 0, number]}
        for number, name in enumerate(("red box", "wooden dresser", "white bed", "stool"))
    ]  # fmt: skip
    view = named_view(objects, 50, ("lamp", "sofa", "box", "bed", "stool"))
    for style in (METRIC, MSMU):
        asked = ask_all(view, np.random.default_rng(3), dict.fromkeys(TYPES, 20), style=style)
        assert {q.type for q in asked} == set(TYPES)
        for q in asked:
            assert type_of("", q.question, q.answer) == q.type, q
            reference = reference_of(q.type, q.question, q.answer)
            if isinstance(q.reference, str):
                assert reference == q.reference, q
            else:
                assert reference == pytest.approx(q.reference, abs=0.0051), q


def q_spatial(**more):
    return {"question": "What is the height of the cup?", "answer_value": 12.0,
            "answer_unit": "cm", "question_type": "height", "image_path": "a/b.png",
            "image": IMAGE} | more  # fmt: skip


def test_q_spatial_is_read_with_images_in_the_file_or_in_a_folder(tmp_path):
    pq.write_table(pa.Table.from_pylist([q_spatial()] * 2), tmp_path / "QSpatial_plus-0.parquet")
    beside = q_spatial(image=None, answer_value=0.2, answer_unit="meters")
    schema = pa.Table.from_pylist([q_spatial()]).schema
    pq.write_table(
        pa.Table.from_pylist([beside], schema=schema), tmp_path / "QSpatial_scannet-0.parquet"
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.png").write_bytes(PNG)
    benchmark = open_benchmark("q-spatial", tmp_path)
    items = [picture.items[0] for picture in benchmark.pictures()]
    assert [(i.type, i.reference) for i in items] == [
        ("QSpatial_plus", 0.12), ("QSpatial_plus", 0.12), ("QSpatial_scannet", 0.2)
    ]  # fmt: skip
    assert benchmark.types == ("QSpatial_plus", "QSpatial_scannet")


def test_q_spatial_is_asked_in_part_where_images_are_missing_and_says_so(tmp_path):
    schema = pa.Table.from_pylist([q_spatial()]).schema

    def write(split, *rows):
        table = pa.Table.from_pylist(list(rows), schema=schema)
        pq.write_table(table, tmp_path / f"{split}-00000-of-00001.parquet")

    absent = q_spatial(image=None, image_path="scans/none.png")
    write("QSpatial_scannet", absent, absent)
    with pytest.raises(BenchmarkError, match=r"no image of any question.*scans/none\.png"):
        open_benchmark("q-spatial", tmp_path)
    write("QSpatial_plus", q_spatial())
    assert open_benchmark("q-spatial", tmp_path).types == ("QSpatial_plus",)
    write("QSpatial_scannet", absent, q_spatial(answer_value=3), absent)
    benchmark = open_benchmark("q-spatial", tmp_path)
    assert benchmark.types == ("QSpatial_plus", "QSpatial_scannet, 1 of 3")
    assert benchmark.size == 2
    items = [picture.items[0] for picture in benchmark.pictures()]
    assert [(item.type, item.reference) for item in items] == [
        ("QSpatial_plus", 0.12), ("QSpatial_scannet, 1 of 3", 0.03)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "theirs", "ours"),
    [
        ("\\scalar{12} \\distance_unit{cm}", True, True),
        ("first \\scalar{99}, no: \\scalar{0.2} \\distance_unit{m}", True, True),
        ("\\scalar{0.24} \\distance_unit{m}", False, False),  # 2 is not below 2
        ("\\scalar{0.23} \\distance_unit{m}", True, True),
        ("\\scalar{10-14} \\distance_unit{cm}", True, False),  # they take the mean
        ("\\scalar{12} \\distance_unit{bananas}", True, False),  # they take it for centimetres
        ("\\scalar{12}", False, False),
        ("\\scalar{} \\distance_unit{cm}", False, False),
        ("\\scalar{0} \\distance_unit{cm}", False, False),
        ("\\scalar{5} \\distance_unit{inches}", True, True),
        ("\\scalar{120} \\distance_unit{mm}", True, True),
        ("\\scalar{0.5} \\distance_unit{Feet}", True, True),
        ("The height of the cup is 0.11 m.", True, True),
        ("about 5 inches", True, True),
        ("12", False, False),
        ("It is tall.", False, False),
        ("", False, False),
    ],
)
def test_q_spatial_accepts_its_own_format_and_free_text(tmp_path, answer, theirs, ours):
    pq.write_table(pa.Table.from_pylist([q_spatial()]), tmp_path / "QSpatial_plus.parquet")
    ((item,),) = [p.items for p in open_benchmark("q-spatial", tmp_path).pictures()]
    judgement = rules_judge(item, answer)
    assert official(item.rule, judgement, metres=item.reference).correct is theirs
    assert strict(item.rule, judgement, item.reference).correct is ours


def region(category, question, answer, kind="quantitative", **more):
    return {"id": "1", "image_info": {"file_path": "pictures/a.png"}, "text_q": question,
            "conversations": turns(question, answer), "bbox": [[5, 5, 40, 40], [30, 10, 70, 50]],
            "qa_info": {"type": kind, "category": category}} | more  # fmt: skip


WIDE = "What is the width of Region [0]?"
REGIONS = [
    (region("width_data", WIDE, "Region [0] is 2 feet wide."), "width",
     ("0.61 m", True), ("0.47 m", True), ("0.44 m", False), ("0.77 m", False)),
    (region("distance_data", "How far is Region [0] from Region [1]?", "3 m apart."),
     "direct_distance", ("2.3 m", True), ("It is 10 feet.", True), ("far", False)),
    (region("direction", "If you are at Region [0], where is Region [1]?", "At 12 o'clock."),
     "direction", ("around the 1 o'clock direction", True), ("11 o'clock", True),
     ("2 o'clock", False), ("left", False)),
    (region("left_predicate", "Is Region [0] to the left of Region [1]?",
            "Actually, Region [0] is to the right of Region [1].", "qualitative"), "left/right",
     ("No.", True), ("Incorrect, it is not.", True), ("Yes, it is.", False), ("", False)),
    (region("tall_choice", "Who is taller, Region [0] or Region [1]?",
            "Region [1] is taller.", "qualitative"), "tall/short",
     ("Region [1].", True), ("Region [0] is taller than Region [1].", False), ("Both", False)),
]  # fmt: skip


@pytest.mark.parametrize("stored", ["array", "jsonl", "parquet"])
def test_spatialrgpt_bench_is_read_and_marked_by_its_rules(tmp_path, stored):
    rows = [row for row, *_ in REGIONS]
    if stored == "array":  # as released, in a folder that has other JSON
        rows[0] |= {"rle": [{"size": [60, 80], "counts": "abc"}] * 2, "dataset": "SUNRGBD"}
        (tmp_path / "SpatialRGPT-Bench_v1.json").write_text(json.dumps(rows))
        (tmp_path / "SUNRGBD_test.json").write_text('{"images": []}')
    if stored != "parquet":
        (tmp_path / "pictures").mkdir()
        (tmp_path / "pictures" / "a.png").write_bytes(PNG)
    if stored == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "val_SpatialRGPT-Bench.jsonl").write_text(text)
    if stored == "parquet":  # nested cells as text, as the hub has them
        flat = [
            {k: v if isinstance(v, str) else str(v) for k, v in row.items()} | {"image": IMAGE}
            for row in rows
        ]
        pq.write_table(pa.Table.from_pylist(flat), tmp_path / "val.parquet")
    pictures = list(open_benchmark("spatialrgpt", tmp_path).pictures())
    for picture, (_, kind, *said) in zip(pictures, REGIONS, strict=True):
        (item,) = picture.items
        assert item.type == kind
        for answer, right in said:
            judgement = rules_judge(item, answer)
            assert official(item.rule, judgement).correct is right, (answer, judgement)
            assert strict(item.rule, judgement).correct is right, (answer, judgement)


def test_regions_are_drawn_or_described_in_text(tmp_path):
    row = region("width_data", WIDE, "1 m") | {"image_info": {"file_path": "a.png"}}
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (drawn,) = open_benchmark("spatialrgpt", tmp_path, "drawn").pictures()
    (worded,) = open_benchmark("spatialrgpt", tmp_path, "text").pictures()
    assert drawn.items[0].question == WIDE
    assert (drawn.frame.rgb[20, 5] != RGB[20, 5]).any()
    assert (worded.frame.rgb == RGB).all()
    assert worded.items[0].question.startswith(
        "Region [0] is the box from (0.06,0.08) to (0.50,0.67)."
    )
    assert worded.items[0].question.endswith(WIDE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_info": {"file_path": "../secret.png"}}, "leads out of"),
        ({"image_info": {"file_path": "none.png"}}, "is missing"),
        ({"bbox": [[1, 2, 3]]}, "boxes for"),
        ({"qa_info": {"type": "quantitative", "category": "weight"}}, "unknown category 'weight'"),
        ({"qa_info": {"type": "qualitative", "category": "nice_choice"}}, "unknown category"),
        ({"conversations": []}, "a conversation of 0 turns"),
        ({"conversations": turns(WIDE, "1 m") * 2}, "a conversation of 4 turns"),
        ({"conversations": "[__import__('os')]"}, "ValueError"),
    ],
)
def test_a_bad_row_is_refused_with_file_and_row(tmp_path, change, reason):
    (tmp_path / "a.png").write_bytes(PNG)
    good = region("width_data", WIDE, "1 m") | {"image_info": {"file_path": "a.png"}}
    text = "".join(json.dumps(row) + "\n" for row in (good, good | change))
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(BenchmarkError, match=r"rows\.jsonl, row 1.*" + reason):
        list(open_benchmark("spatialrgpt", tmp_path).pictures())


@pytest.mark.parametrize(
    ("text", "reason"),
    [("[{", "is no JSON array"), ("[3]", "row 0: no object but int"), ("[" * 100_000, "no JSON")],
)
def test_a_damaged_json_array_is_refused_with_its_name(tmp_path, text, reason):
    (tmp_path / "SpatialRGPT-Bench_v1.json").write_text(text)
    with pytest.raises(BenchmarkError, match=r"SpatialRGPT-Bench_v1\.json.*" + reason):
        list(open_benchmark("spatialrgpt", tmp_path).pictures())


def test_a_benchmark_without_a_local_copy_is_refused(tmp_path):
    with pytest.raises(BenchmarkError, match="--data"):
        open_benchmark("msmu", None)
    with pytest.raises(FileNotFoundError):
        open_benchmark("q-spatial", tmp_path / "none")
    for name in ("msmu", "q-spatial", "spatialrgpt"):
        with pytest.raises(BenchmarkError, match="holds no"):
            open_benchmark(name, tmp_path)
