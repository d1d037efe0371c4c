"""Labels go out to files and come back as they were, for every kind of task, every format, and texts that are hard."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mlops_nb.errors import UsageError
from mlops_nb.hugging_face import (
    from_huggingface,
    list_tags,
    read_huggingface,
    read_tags,
    split_tokens,
    tag_tokens,
    to_huggingface,
    write_huggingface,
)
from mlops_nb.label_exchange import KINDS, read_answers, tidy_answers, write_answers
from mlops_nb.label_studio import (
    from_label_studio,
    make_labeling_config,
    move_point,
    read_label_studio,
    to_label_studio,
    write_label_studio,
)

SEEDS = range(4)
# each of them has been read as something else by some reader of CSV, JSON or XML
LABELS = ("NA", "nan", "true", "1e5", '"q"', "[x", "{", "가나", "🚄", "a,b", "two\nlines", "B-x", "-",
          " padded ", "<&>")
WORDS = ("김지현은", "탔다", "🚄", "👩‍👩‍👧", "e\u0301", "plain", "\n", "\r\n", "\u2028", '"',
         ",", "\t", "\\n", "𝄞", "...")
NOTES = (None, "", '"quoted"', "[sic]", "{", "a\r\nb", "\r", "\u2028", "NaN", "null", " x ", "=1+1", "조사, 은",
         "007", "🚄")
ANNOTATORS = ("7", "007", "김", "a@b.kr")


def make_value(rng: np.random.Generator, kind: str, text: str) -> object:
    label = lambda: str(rng.choice(LABELS))  # noqa: E731
    if kind == "classes":
        return [str(one) for one in rng.permutation(LABELS)[: rng.integers(1, 4)]]
    if kind == "spans":
        ends = [sorted(int(one) for one in rng.choice(len(text) + 1, 2, replace=False))
                for _ in range(rng.integers(1, 4))]
        return [{"start": start, "end": end, "label": label()} for start, end in ends]
    if kind == "boxes":
        corners = [np.sort(rng.choice(10**12, (2, 2), replace=False), axis=0) for _ in range(rng.integers(1, 4))]
        return [{"x": int(a[0]) / 10**12, "y": int(a[1]) / 10**12, "width": int(b[0] - a[0]) / 10**12,
                 "height": int(b[1] - a[1]) / 10**12, "label": label()} for a, b in corners]
    return label()


def make_content(rng: np.random.Generator, kind: str, number: int) -> dict[str, object]:
    text = "".join(str(rng.choice(WORDS)) + str(rng.choice(["", " "])) for _ in range(6))
    if kind in ("class", "classes", "spans"):
        return {"text": text}
    if kind == "row":
        return {"name": text, "age": int(rng.integers(99)), "share": None if number % 3 == 0 else float(rng.random())}
    if kind == "pair":
        return {"first": {"name": text, "age": 3}, "second": {"name": text[::-1], "age": int(rng.integers(99))}}
    image = rng.bytes(50) if number % 2 else f"사진/{number}.jpg"
    image = f"사진/{number}.jpg" if kind == "image" else image
    return {"image": image, "width": int(rng.integers(1, 5000)), "height": int(rng.integers(1, 5000))}


def make_answers(seed: int, kind: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Eight items, one without an answer, and answers of one to four annotators in the order of the items."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    contents = [make_content(rng, kind, number) for number in range(8)]
    if kind == "boxes":  # parquet has one type a column
        contents = [content | {"image": f"{number}.jpg"} for number, content in enumerate(contents)]
    items = pd.DataFrame([{"item": f"{10**7 + number}" if number % 2 else f"{number}e5"} | content
                          for number, content in enumerate(contents)])
    rows = []
    for item, content in list(zip(items["item"], contents, strict=True))[1:]:
        for annotator in rng.permutation(ANNOTATORS)[: rng.integers(1, 5)]:
            value, guess = (make_value(rng, kind, str(content.get("text"))) for _ in range(2))
            action = str(rng.choice(["label", "label", "label", "none", "skip"]))
            suggestion = [None, guess, {"value": guess}, {"value": guess, "score": float(rng.random()), "model": "v2"},
                          {"value": None, "score": .5}, {"guess": 1}][rng.integers(6)]
            note = NOTES[rng.integers(len(NOTES))]
            rows.append({"item": item, "annotator": str(annotator), "action": action,
                         "value": value if action == "label" else None, "milliseconds": int(rng.integers(10**7)),
                         "recorded_at": f"2026-10-05T09:00:{rng.integers(10, 60)}.{rng.integers(10**6):06}Z",
                         "flagged": bool(rng.integers(2)), "note": note, "suggestion": suggestion})
    answers = pd.DataFrame(rows)
    if seed % 2:
        answers["milliseconds"] = answers["milliseconds"].astype("Int64").mask(answers.index == 2)
    return tidy_answers(answers), items


def assert_same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """Equal to the last bit: pandas' own comparison lets nested numbers differ a little."""
    assert found.dtypes.astype(str).to_dict() == wanted.dtypes.astype(str).to_dict()
    assert found.index.equals(wanted.index) and list(found) == list(wanted)
    for name in wanted:
        plain = [[None if pd.api.types.is_scalar(one) and pd.isna(one) else one for one in frame[name].tolist()]
                 for frame in (found, wanted)]
        assert plain[0] == plain[1], name
        assert repr(plain[0]) == repr(plain[1]), name


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_file_gives_back_what_was_written(tmp_path, seed, kind, suffix):
    answers, items = make_answers(seed, kind)
    path = tmp_path / f"답{suffix}"
    write_answers(path, answers, items, kind, LABELS)
    assert_same(read_answers(path, kind, LABELS), answers)
    some = answers[["item", "annotator", "action", "value"]]
    write_answers(path, some, items, kind, LABELS)
    assert_same(read_answers(path, kind, LABELS), some)
    write_answers(path, answers[:0], items, kind, LABELS)
    assert read_answers(path, kind, LABELS).empty


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_has_the_content_beside_the_answer(tmp_path, kind):
    answers, items = make_answers(0, kind)
    for suffix in (".jsonl", ".parquet", ".csv"):
        write_answers(tmp_path / f"a{suffix}", answers, items, kind, LABELS)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text("utf-8").split("\n") if line]
    table = pq.read_table(tmp_path / "a.parquet").to_pylist()
    cells = pd.read_csv(tmp_path / "a.csv", dtype="str", keep_default_na=False).to_dict("records")
    by_item = items.set_index("item").to_dict("index")
    for line, row, cell, item in zip(lines, table, cells, answers["item"], strict=True):
        for name, wanted in by_item[item].items():
            shown = cell[f"content.{name}"]
            if pd.api.types.is_scalar(wanted) and pd.isna(wanted):
                assert line["content"][name] is None and row[f"content.{name}"] is None and shown == ""
            else:
                assert line["content"][name] == wanted and row[f"content.{name}"] == wanted
                plain = isinstance(wanted, str) and shown[0] not in '"[{'
                assert (shown if plain else json.loads(shown)) == wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_label_studio_gives_back_what_was_written(tmp_path, seed, kind):
    answers, items = make_answers(seed, kind)
    write_label_studio(tmp_path / "작업.json", answers, items, kind, LABELS)
    found, same = read_label_studio(tmp_path / "작업.json", kind, LABELS)
    assert_same(found, answers)
    assert same["item"].tolist() == items["item"].tolist(), "items without answers are tasks too"
    assert_same(same[[name for name in items if name != "share"]], items[[name for name in items if name != "share"]])
    # shuffled answers come back grouped by item, each with all that it had
    mixed = answers.sample(frac=1, random_state=seed)
    again, _ = from_label_studio(to_label_studio(mixed, items, kind, LABELS), kind, LABELS)
    again, wanted = (frame.sort_values(["item", "annotator"], ignore_index=True) for frame in (again, answers))
    assert_same(again, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_the_labeling_config_asks_for_what_the_tasks_hold(kind):
    answers, items = make_answers(1, kind)
    tasks = to_label_studio(answers, items, kind, LABELS)
    view = ElementTree.fromstring(make_labeling_config(kind, LABELS))
    control = next(one for one in view if one.get("toName"))
    shown = {one.get("name"): one.get("value") for one in view if one.get("value")}
    assert [entry.get("value") for entry in control] == list(LABELS)
    made = [made for task in tasks for made in [*task["annotations"], *task["predictions"]]]
    results = [result for one in made for result in one["result"]]
    assert {(one["from_name"], one["to_name"], one["type"]) for one in results} == {
        (control.get("name"), control.get("toName"), control.tag.lower())}
    assert control.get("toName") in shown
    assert all(field[1:] in task["data"] for field in shown.values() for task in tasks)
    ids = [result["id"] for task in tasks for made in task["annotations"] for result in made["result"]]
    assert len(set(ids)) == len(ids) > 0
    seen = {one["id"] for task in tasks for one in task["predictions"]}
    began = {made["parent_prediction"] for task in tasks for made in task["annotations"]} - {None}
    assert began == seen and len(seen) == sum(len(task["predictions"]) for task in tasks)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_hugging_face_columns_give_back_what_was_written(tmp_path, seed, kind):
    answers, items = make_answers(seed, kind)
    frame = to_huggingface(answers, items, kind, LABELS)
    assert len(frame) == len(answers)
    found, same = from_huggingface(frame, kind, LABELS)
    assert_same(found, answers)
    assert same["item"].tolist() == items["item"].tolist()[1:], "an item without an answer has no row"
    write_huggingface(tmp_path / "train.parquet", frame)
    read = read_huggingface(tmp_path / "train.parquet")
    assert read.attrs == frame.attrs
    assert_same(from_huggingface(read, kind, LABELS)[0], answers)


@pytest.mark.parametrize("kind", KINDS)
def test_hugging_face_metadata_fits_the_columns(tmp_path, kind):
    """`datasets` drops an entry whose type is not the column's."""
    answers, items = make_answers(0, kind)
    write_huggingface(tmp_path / "a.parquet", to_huggingface(answers, items, kind, LABELS))
    schema = pq.read_schema(tmp_path / "a.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]

    def describe(feature):
        if isinstance(feature, list):
            return [describe(feature[0])]
        if "_type" not in feature:
            return {name: describe(one) for name, one in feature.items()}
        known = {"Image": {"bytes": "binary", "path": "string"}, "ClassLabel": "int64"}
        return known.get(feature["_type"]) or feature["dtype"]

    def describe_type(arrow):
        if str(arrow).startswith("list"):
            return [describe_type(arrow.value_type)]
        if str(arrow).startswith("struct"):
            return {field.name: describe_type(field.type) for field in arrow}
        return {"double": "float64"}.get(str(arrow), str(arrow))

    assert features and set(features) <= set(schema.names)
    for name, feature in features.items():
        assert describe(feature) == describe_type(schema.field(name).type), name
    assert ("image" in features) == (kind in ("image", "boxes"))


def test_images_as_bytes_stay_bytes(tmp_path):
    items = pd.DataFrame({"item": ["a", "b"], "image": [b"\x89PNG\x00\xff", b"GIF8"]})
    rows = {"item": ["a", "b"], "annotator": "7", "action": "label", "value": ["cat", "dog"]}
    answers = tidy_answers(pd.DataFrame(rows))
    write_huggingface(tmp_path / "a.parquet", to_huggingface(answers, items, "image", ("cat", "dog")))
    found, same = from_huggingface(read_huggingface(tmp_path / "a.parquet"), "image", ("cat", "dog"))
    assert_same(found, answers)
    assert same["image"].tolist() == items["image"].tolist()
    for suffix in (".csv", ".jsonl", ".parquet"):
        write_answers(tmp_path / f"a{suffix}", answers, items, "image", ("cat", "dog"))
        assert_same(read_answers(tmp_path / f"a{suffix}", "image", ("cat", "dog")), answers)
    assert pq.read_table(tmp_path / "a.parquet")["content.image"].to_pylist() == items["image"].tolist()
    (task, _) = to_label_studio(answers, items, "image", ("cat", "dog"))
    assert task["data"]["image"] == "data:image/png;base64,iVBORwD/"


@pytest.mark.parametrize("seed", SEEDS)
def test_tags_tell_spans_that_end_where_tokens_end(seed):
    rng = np.random.default_rng(seed)
    text = " ".join(str(rng.choice(WORDS)) for _ in range(30))
    tokens = split_tokens(text)
    assert "".join(word for _, word in tokens) == "".join(text.split())
    cuts = sorted(int(one) for one in rng.choice(len(tokens), 6, replace=False))
    spans = [{"start": tokens[first][0], "end": tokens[last][0] + len(tokens[last][1]), "label": LABELS[first % 9]}
             for first, last in zip(cuts[::2], cuts[1::2], strict=True)]
    tags = tag_tokens(tokens, spans, LABELS)
    assert read_tags(tokens, [list_tags(LABELS)[tag] for tag in tags]) == spans
    overlap = {"start": spans[0]["start"], "end": len(text), "label": LABELS[0]}
    assert tag_tokens(tokens, [*spans, overlap], LABELS) == tags


def test_tables_of_others_are_read():
    tokens = pd.DataFrame({"tokens": [["New", "York", ",", "Kim"], ["no", "one"]], "ner_tags": [[3, 4, 0, 1], [0, 0]]})
    answers, items = from_huggingface(tokens, "spans", ("person", "place"), annotator="conll")
    assert items["text"].tolist() == ["New York , Kim", "no one"] and answers["annotator"].tolist() == ["conll"] * 2
    assert [items["text"][0][one["start"]:one["end"]] for one in answers["value"][0]] == ["New York", "Kim"]
    assert answers["action"].tolist() == ["label", "none"]
    table = pd.DataFrame({"text": ["a", "b", "c"], "label": [0, 1, -1]})
    table.attrs["label_names"] = {"label": ["pos", "neg"]}
    answers, _ = from_huggingface(table, "class", ("neg", "pos"))
    assert answers["value"].tolist() == ["pos", "neg", None], "the table's order of names, and not ours"
    with pytest.raises(UsageError, match=r"row 1: label 'neg'"):
        from_huggingface(table, "class", ("pos",))


# What Label Studio itself writes, in the form of its documentation: its fields, and every digit that a mouse gives.
def export_of(kind: str) -> list[dict]:
    sized = {"original_width": 600, "original_height": 403, "image_rotation": 0}
    data, results = {
        "class": ({"review": "Nice seats"}, [("sentiment", "choices", {"choices": ["Positive"]})]),
        "classes": ({"review": "x"}, [("topic", "choices", {"choices": ["Positive", "Neutral"]})]),
        "spans": ({"review": "👍 서울 and Busan"}, [
            ("ner", "labels", {"start": 2, "end": 4, "text": "서울", "labels": ["Place"]}),
            ("ner", "labels", {"start": 9, "end": 14, "text": "Busan", "labels": ["Place"]})]),
        "image": ({"img": "/data/upload/1.jpg"}, [("choice", "choices", {"choices": ["Positive"]})]),
        "boxes": ({"img": "/data/upload/1.jpg"}, [("tag", "rectanglelabels", {
            "x": 5.33, "y": 23.57, "width": 29.16, "height": 31.26, "rotation": 0, "rectanglelabels": ["Airplane"]}),
            ("tag", "rectanglelabels", {"x": 50.8, "y": 5.869797225186766, "width": 12.4, "height": 10.458911419423693,
                                        "rotation": 0, "rectanglelabels": ["Airplane"]})]),
        "row": ({"age": 3, "name": "Kim"}, [("choice", "choices", {"choices": ["Neutral"]})]),
        "pair": ({"first": {"a": 1}, "second": {"a": 2}}, [("pw", "pairwise", {"selected": "left"})]),
    }[kind]
    extra = sized if kind in ("boxes", "image") else {}
    made = [{"id": f"Dx_aB91IS{number}", "from_name": name, "to_name": "x", "type": form, "origin": "manual"}
            | {"value": value} | extra for number, (name, form, value) in enumerate(results)]
    about = {"was_cancelled": False, "ground_truth": False, "updated_at": "2021-03-09T22:16:08.728378Z", "task": 17,
             "result_count": len(made), "unique_id": "4b0", "prediction": {}, "import_id": None, "last_action": None}
    return [{"id": 17, "project": 83, "data": data, "meta": {}, "inner_id": 1, "total_annotations": 3, "drafts": [],
             "created_at": "2021-03-09T21:52:49.513742Z", "updated_at": "2021-03-09T22:16:08.746926Z",
             "predictions": [{"id": 5, "model_version": "m 1", "score": 0.87, "result": made, "created_ago": "1 h"}],
             "annotations": [
                 about | {"id": 1001, "result": made, "lead_time": 4.288, "completed_by": 10, "parent_prediction": 5,
                          "created_at": "2021-03-09T22:16:08.728353Z"},
                 about | {"id": 1002, "result": [], "lead_time": 12.25, "parent_prediction": None,
                          "completed_by": {"id": 11, "email": "kim@example.com", "first_name": "김", "last_name": ""},
                          "created_at": "2021-03-09T22:17:00.000001Z"},
                 about | {"id": 1003, "result": made[:1], "lead_time": None, "completed_by": 12, "was_cancelled": True,
                          "created_at": "2021-03-09T22:18:00Z", "parent_prediction": None}]}]


LABEL_STUDIO_LABELS = ("Positive", "Neutral", "Place", "Airplane", "left", "right")


def what_it_said(tasks: list[dict]) -> list:
    """Who said what, when and how long, without numbers of the database and names of tags."""

    def plain(value: dict) -> dict:
        value = {"choices": [value["selected"]]} if "selected" in value else value
        # the 17 digits of a mouse: the last bit of a double may differ
        return {name: float(f"{one:.15g}") if isinstance(one, float) else one for name, one in value.items()}

    said = []
    for task in tasks:
        for made in task["annotations"]:
            who, results = made["completed_by"], [] if made["was_cancelled"] else made["result"]
            said.append((who["email"] if isinstance(who, dict) else who, made["was_cancelled"], made["lead_time"],
                         made["created_at"], [plain(one["value"]) for one in results],
                         [one["original_width"] for one in results if "rectanglelabels" in one["value"]]))
        said.append([([plain(one["value"]) for one in made["result"]], made.get("score"), made["model_version"])
                     for made in task["predictions"]])
    return said


@pytest.mark.parametrize("kind", KINDS)
def test_what_label_studio_wrote_is_kept(kind):
    export = export_of(kind)
    field = next((name for name in ("review", "img") if name in export[0]["data"]), "")
    answers, items = from_label_studio(export, kind, LABEL_STUDIO_LABELS, field=field)
    assert answers["action"].tolist() == ["label", "none", "skip"]
    assert answers["annotator"].tolist() == ["10", "kim@example.com", "12"]
    assert answers["milliseconds"].tolist() == [4288, 12250, pd.NA] and answers["value"][1] is None
    assert answers["suggestion"][0]["score"] == .87 and answers["suggestion"][0]["value"] == answers["value"][0]
    if kind in ("image", "boxes"):
        assert items[["width", "height"]].values.tolist() == [[600, 403]]
    tasks = to_label_studio(answers, items, kind, LABEL_STUDIO_LABELS)
    assert what_it_said(tasks) == what_it_said(export)
    assert_same(from_label_studio(tasks, kind, LABEL_STUDIO_LABELS)[0], answers)


def test_offsets_of_old_exports_are_understood():
    """Until 2021 Label Studio counted UTF-16 units; the marked text tells which of the two a file means."""
    rng = np.random.default_rng(5)
    for _ in range(200):
        text = "".join(str(rng.choice(WORDS)) + " " for _ in range(8))
        start, end = sorted(int(one) for one in rng.choice(len(text) + 1, 2, replace=False))
        said = text[start:end].replace("\r", "\\n").replace("\n", "\\n")
        units = [len(text[:place].encode("utf-16-le")) // 2 for place in (start, end)]
        for first, last in ((start, end), units):
            result = {"id": "a", "from_name": "ner", "to_name": "t", "type": "labels",
                      "value": {"start": first, "end": last, "text": said, "labels": ["Place"]}}
            tasks = [{"data": {"text": text}, "annotations": [{"completed_by": 1, "result": [result]}]}]
            found = from_label_studio(tasks, "spans", ["Place"])[0]["value"][0][0]
            marked = text[found["start"]:found["end"]].replace("\r", "\\n").replace("\n", "\\n")
            assert marked == said
    unmarked = [{"data": {"text": "🚄 서울"}, "annotations": [{"result": [
        {"from_name": "ner", "type": "labels", "value": {"start": 2, "end": 4, "labels": ["Place"]}}]}]}]
    assert from_label_studio(unmarked, "spans", ["Place"])[0]["value"][0] == [{"start": 2, "end": 4, "label": "Place"}]


def test_percent_come_back_exactly():
    rng = np.random.default_rng(3)
    for digits in (1, 3, 7, 12, 15):
        shares = [float(f"0.{''.join(str(one) for one in rng.integers(0, 10, digits))}") for _ in range(2000)]
        assert [move_point(move_point(one, 2), -2) for one in shares] == shares
    assert move_point(29.16, -2) == .2916 and move_point(0, 2) == 0


def test_marks_at_regions_become_the_note():
    export = export_of("spans")
    for result, text in zip(export[0]["annotations"][0]["result"], ["sure?", "or team"], strict=True):
        result["meta"] = {"text": [text]}
    answers, items = from_label_studio(export, "spans", LABEL_STUDIO_LABELS, field="review")
    assert answers["note"][0] == "sure?\nor team"
    tasks = to_label_studio(answers, items, "spans", LABEL_STUDIO_LABELS)
    assert_same(from_label_studio(tasks, "spans", LABEL_STUDIO_LABELS)[0], answers)


LINE = {"kind": "spans", "item": "a", "annotator": "7", "action": "label", "content": {"text": "서울 🚄"},
        "value": [{"start": 0, "end": 2, "label": "place"}]}


@pytest.mark.parametrize("change, what", [
    ("{", "line 2: not JSON"),
    ("3", "line 2: not a JSON object"),
    ({"value": [{"start": 0, "end": 2, "label": "plase"}]}, r"line 2: label 'plase'\n  mend: did you mean `place`"),
    ({"value": [{"start": 0, "end": 5, "label": "place"}]}, "line 2: span 0 to 5 of a text of 4 characters"),
    ({"value": [{"start": 2, "end": 2, "label": "place"}]}, "line 2: span 2 to 2"),
    ({"value": [{"start": 0.0, "end": 2, "label": "place"}]}, "line 2: span 0.0 to 2"),
    ({"value": [{"start": 0, "end": 2}]}, "line 2: .*start, end, label"),
    ({"value": []}, "line 2: .*the action is `none`"),
    ({"value": None}, "line 2: None as spans"),
    ({"kind": "class"}, "line 2: a task of kind `class`, and `spans` was asked"),
    ({"action": "done"}, "line 2: action `done`"),
    ({"action": "skip"}, "line 2: skip with the value"),
    ({"annotator": None}, "line 2: no annotator"),
    ({"milliseconds": "soon"}, "milliseconds"),
    ({"flagged": "maybe"}, "flagged 'maybe'"),
    ({"item": 5}, "line 2: item 5 is no text"),
])
def test_a_bad_line_is_named(tmp_path, change, what):
    line = change if isinstance(change, str) else json.dumps(LINE | change, ensure_ascii=False)
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(LINE, ensure_ascii=False) + "\n" + line + "\n", "utf-8")
    with pytest.raises(UsageError, match=f"(?s){what}") as raised:
        read_answers(path, "spans", ("place",))
    assert raised.value.mend


def test_a_bad_record_of_csv_is_named(tmp_path):
    path = tmp_path / "a.csv"
    rows = {"item": ["a", "b"], "annotator": "7", "action": "label", "value": ["cat", "dog"], "milliseconds": 5}
    answers = pd.DataFrame(rows)
    write_answers(path, answers, pd.DataFrame({"item": ["a", "b"], "text": ["x\ny", "z"]}), "class", ("cat", "dog"))
    text = path.read_text("utf-8-sig")
    for old, new, what in [
        ("dog", "dgo", r"a.csv, record 2: label 'dgo'\n  mend: did you mean `dog`"),
        (",5,", ",soon,", "record 1: .*soon"),
        ("action", "akcion", "no column action"), ("class,b", "row,b", "record 2: a task of kind `row`"),
    ]:
        path.write_text(text.replace(old, new), "utf-8")
        with pytest.raises(UsageError, match=what):
            read_answers(path, "class", ("cat", "dog"))
    for content in (b"", b"\xff\xfe\x00", b'a,b\n1,2,3,4\n"'):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"a\.csv"):
            read_answers(path, "class", ("cat", "dog"))


def test_what_is_no_file_of_answers_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "b.jsonl").write_bytes("서울".encode("cp949"))
    (tmp_path / "c.txt").write_text("")
    for name in ("a.parquet", "b.jsonl", "c.txt", "none.csv"):
        with pytest.raises(UsageError, match=name):
            read_answers(tmp_path / name, "class", ("cat",))
    answers, items = make_answers(0, "class")
    with pytest.raises(UsageError, match="suffix"):
        write_answers(tmp_path / "a.xlsx", answers, items, "class", LABELS)
    with pytest.raises(UsageError, match="did you mean `class`"):
        write_answers(tmp_path / "a.csv", answers, items, "clas", LABELS)
    with pytest.raises(UsageError, match="not among the items"):
        write_answers(tmp_path / "a.csv", answers, items[:2], "class", LABELS)
    with pytest.raises(UsageError, match="name each row once"):
        write_answers(tmp_path / "a.csv", answers, pd.concat([items, items]), "class", LABELS)
    with pytest.raises(UsageError, match=r"`content\.text` has"):
        write_answers(tmp_path / "a.parquet", answers, items.assign(text=[1, "a"] * 4), "class", LABELS)
    assert not (tmp_path / "a.csv").exists()


def set_in(value, path, new):
    for step in path[:-1]:
        value = value[step]
    value[path[-1]] = new


RESULT = (0, "annotations", 0, "result", 0)


@pytest.mark.parametrize("kind, path, new, what", [
    ("class", (*RESULT, "value", "choices"), ["Positiv"],
     r"task 1 \(id 17\), annotation 1: label 'Positiv'\n  mend: did you mean `Positive`"),
    ("class", (*RESULT, "value", "choices"), ["Positive", "Neutral"], "2 labels, and class has one"),
    ("class", (*RESULT, "type"), "rating", "a result of type `rating`\n  mend: class has results of choices"),
    ("class", (*RESULT, "value"), {}, "annotation 1: it cannot be read"),
    ("class", (0, "annotations", 1, "result"), [{"from_name": "other", "type": "choices", "value": {"choices": []}}],
     r"several controls\n  mend: .*other, sentiment"),
    ("class", (0, "predictions", 0, "result", 0, "value", "choices"), ["x"], "annotation 1, prediction: label 'x'"),
    ("class", (0, "data"), None, r"task 1 \(id 17\): no object `data`"),
    ("class", (0, "data"), {"text": "x"}, "no `review` in its data"),
    ("spans", (*RESULT, "value", "end"), 99, "span 2 to 99 of a text of 14 characters"),
    ("spans", (*RESULT, "value", "start"), "2", "cannot be read"),
    ("boxes", (*RESULT, "value", "rotation"), 30, "rotated by 30 degrees"),
    ("boxes", (*RESULT, "value", "width"), 99, "leaves the image"),
    ("boxes", (*RESULT, "value", "x"), "left", "cannot be read"),
    ("pair", (*RESULT, "value", "selected"), "middle", "label 'middle'"),
])
def test_a_bad_task_is_named(tmp_path, kind, path, new, what):
    export = json.loads(json.dumps(export_of(kind)))
    field = next((name for name in ("review", "img") if name in export[0]["data"]), "")
    set_in(export, path, new)
    (tmp_path / "export.json").write_text(json.dumps(export), "utf-8")
    with pytest.raises(UsageError, match=f"(?s)export.json.*{what}") as raised:
        read_label_studio(tmp_path / "export.json", kind, LABEL_STUDIO_LABELS, field=field)
    assert raised.value.mend


ODD = (None, 3, -1, 1.5, True, "", "x", [], {}, [3], [None], {"a": 1}, [[]], "label")


def list_paths(value, path=()):
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for step, one in inner for found in list_paths(one, (*path, step)))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_export_is_read_or_refused(kind):
    """Whatever stands in the file, nobody sees a traceback."""
    refused, field = 0, next(iter(export_of(kind)[0]["data"]))
    for path in list_paths(export_of(kind))[1:]:
        for new in ODD:
            export = json.loads(json.dumps(export_of(kind)))
            set_in(export, path, new)
            try:
                answers, _ = from_label_studio(export, kind, LABEL_STUDIO_LABELS, field=field)
                assert set(answers["action"]) <= {"label", "none", "skip"}
            except UsageError as error:
                refused += str(error).startswith("tasks") and bool(error.mend)
    assert refused > 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_line_is_read_or_refused(tmp_path, kind):
    answers, items = make_answers(0, kind)
    path = tmp_path / "a.jsonl"
    write_answers(path, answers[answers["action"] == "label"][:1], items, kind, LABELS)
    line = json.loads(path.read_text("utf-8"))
    for place in list_paths(line)[1:]:
        for new in ODD:
            damaged = json.loads(json.dumps(line))
            set_in(damaged, place, new)
            path.write_text(json.dumps(damaged), "utf-8")
            try:
                read_answers(path, kind, LABELS)
            except UsageError as error:
                assert error.mend
            else:
                assert place[0] not in ("kind", "action") or damaged == line | {"action": "label"}


def test_what_is_no_export_is_refused(tmp_path):
    path = tmp_path / "export.json"
    for content, what in [
        (b"[{", "not a file of JSON"), ('["서울"]'.encode("cp949"), "not a file of JSON"), (b"{}", "not a list of"),
        (b"[3]", "task 1: no object `data`"), (b'[{"review": "x", "sentiment": "y"}]', "JSON-MIN"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UsageError, match=what):
            read_label_studio(path, "class", ("a",))
    with pytest.raises(UsageError, match="not a file of JSON"):
        read_label_studio(tmp_path / "none.json", "class", ("a",))
    export = export_of("spans")
    with pytest.raises(UsageError, match="type `labels`"):
        from_label_studio(export, "class", LABEL_STUDIO_LABELS, field="review")
    with pytest.raises(UsageError, match=r"no control `nre`\n.*ner"):
        from_label_studio(export, "spans", LABEL_STUDIO_LABELS, from_name="nre", field="review")
    twice = [{"data": {"item": "a", "text": text}, "annotations": []} for text in ("x", "y")]
    with pytest.raises(UsageError, match="task 2: `a` names another content before"):
        from_label_studio(twice, "class", ("a",))


def test_answers_that_label_studio_cannot_hold_are_refused():
    answers, items = make_answers(0, "boxes")
    with pytest.raises(UsageError, match="no size of the image\n  mend: give the items `width` and `height`"):
        to_label_studio(answers, items.drop(columns="width"), "boxes", LABELS)
    answers, items = make_answers(0, "class")
    for wrong, what in [
        ({"action": "label", "value": None}, "action 'label' with the value"), ({"action": "done"}, "action 'done'"),
        ({"action": "skip", "value": "NA"}, "action 'skip'"), ({"action": "label", "value": "NAN"}, "label 'NAN'"),
    ]:
        with pytest.raises(UsageError, match=what):
            to_label_studio(answers.assign(**wrong), items, "class", LABELS)
    with pytest.raises(UsageError, match="no column `text`"):
        to_label_studio(answers, items.rename(columns={"text": "review"}), "class", LABELS)
    with pytest.raises(UsageError, match="not among the items"):
        to_label_studio(answers, items[:2], "class", LABELS)
    with pytest.raises(UsageError, match="no kind of task"):
        make_labeling_config("polygon", ("a",))


def test_hugging_face_files_of_others(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    for name in ("a.parquet", "none.parquet"):
        with pytest.raises(UsageError, match=name):
            read_huggingface(tmp_path / name)
    pd.DataFrame({"text": ["a"], "label": [1]}).to_parquet(tmp_path / "plain.parquet")
    answers, _ = from_huggingface(read_huggingface(tmp_path / "plain.parquet"), "class", ("neg", "pos"))
    assert answers["value"].tolist() == ["pos"]
    with pytest.raises(UsageError, match="lost the names"):
        write_huggingface(Path(tmp_path / "b.parquet"), pd.DataFrame({"text": ["a"], "label": [1]}))
