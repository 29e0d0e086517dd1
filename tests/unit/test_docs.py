"""README and docs are true where a machine can tell; commands are run in tests/broker."""

from __future__ import annotations

import ast
import itertools
import re
import runpy
import subprocess
import tomllib
from pathlib import Path

import msgspec
import pytest

from encoders.config import InterestConfig
from state.event import EventLimits, decode
from stream_app import update_schemas, updates
from stream_app.record_files import items
from stream_app.settings import Settings, load
from stream_app.status import Counts
from tests.harness.documents import API_KINDS, KINDS, ROOT, Block, all_blocks, pages

BLOCKS = all_blocks()
NOW_MS = 1_800_000_000_000
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PLACEHOLDER = re.compile(r"\b(TODO|TBD|FIXME|XXX|lorem)\b", re.IGNORECASE)


def of_kind(*kinds: str) -> pytest.MarkDecorator:
    found = [block for block in BLOCKS if block.kind in kinds]
    assert found, f"no block of {kinds}"
    return pytest.mark.parametrize("block", found, ids=str)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_says_how_it_is_tested(block: Block) -> None:
    assert block.kind in KINDS


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """Return the anchors that headings get on a repository's web page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_nothing_is_left_to_be_filled_in(page: Path) -> None:
    assert not _PLACEHOLDER.search(page.read_text(encoding="utf-8"))


@of_kind("sh", "sh background", "sh finally", "sh model")
def test_commands_are_shell(block: Block) -> None:
    checked = subprocess.run(
        ["bash", "-n"], input=block.text, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@of_kind("sh")
def test_make_knows_the_targets(block: Block) -> None:
    for line in block.text.splitlines():
        if line.startswith("make "):
            arguments = line.partition("#")[0].split()[1:]
            made = subprocess.run(
                ["make", "-C", ROOT, "-n", *arguments], capture_output=True, text=True, check=False
            )
            assert made.returncode == 0, made.stderr


@of_kind("json event")
def test_events_are_events(block: Block) -> None:
    user = msgspec.json.decode(block.text)["user_id"]
    event = decode(user.encode(), block.text.encode(), NOW_MS, EventLimits())
    assert event.user_id == user


@of_kind("json item")
def test_items_are_items(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text(block.text, encoding="utf-8")
    ((item, _),) = items(file)
    assert item.item_id
    assert item.text


@of_kind("json update")
def test_updates_are_updates_with_every_field_that_is_always_there(block: Block) -> None:
    update = updates.decode(block.text.encode())
    shown = msgspec.json.decode(block.text)
    encoder = updates.UpdateEncoder("json", "m", update.topic, list(update.weights), [0, 0, 0, 1])
    made = encoder.encode("u", updates.np.zeros(2, updates.np.float32), None, 0, 0, 0, 0)
    assert list(shown) == list(msgspec.json.decode(made))
    assert update.event_count == 4


@of_kind("json item-vector")
def test_item_vectors_have_the_fields_that_are_published(block: Block) -> None:
    assert list(msgspec.json.decode(block.text)) == ["item_id", "vector", "model_id"]
    assert '{"item_id": item_id, "vector": vector, "model_id": self._model_id}' in text_of(
        "stream_app/item_vectors.py"
    )


@of_kind("json interest")
def test_an_interest_model_is_configured_as_shown(block: Block) -> None:
    shown = msgspec.json.decode(block.text, type=InterestConfig)
    made_for = {"dimensions": shown.dimensions, "text_model_id": shown.text_model_id}
    assert shown == msgspec.structs.replace(InterestConfig(), **made_for)
    explained = re.findall(
        r"`(\w+)`", first_column(section("docs/models.md", "The interest model"))
    )
    assert set(explained) == set(InterestConfig.__struct_fields__) - {"schema_version"}


@of_kind(*(f"json api-{name}" for name in API_KINDS))
def test_answers_of_the_api_have_every_field_that_is_always_there(block: Block) -> None:
    shown = msgspec.json.decode(block.text)
    kind = API_KINDS[block.kind.removeprefix("json api-")]
    assert shown == msgspec.to_builtins(msgspec.json.decode(block.text, type=kind))


@of_kind("toml")
def test_settings_files_are_taken(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(block.text, encoding="utf-8")
    settings = load(environ={}, config=file)
    for name, value in tomllib.loads(block.text).items():
        assert str(getattr(settings, name)) == str(value)


def test_the_settings_page_is_what_its_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "settings_table.py"))
    assert script["page"]() == text_of("docs/settings.md"), "run python docs/settings_table.py"


def test_the_page_of_training_settings_is_what_its_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "training_table.py"))
    assert script["page"]() == text_of("docs/training-settings.md"), (
        "run python docs/training_table.py"
    )


def test_the_settings_page_has_every_setting_once() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", text_of("docs/settings.md"), re.MULTILINE)
    assert rows == list(Settings.model_fields)


def section(page: str, heading: str) -> str:
    """Return what stands under a heading of the second level."""
    text = text_of(page).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert text, f"{page} has no section {heading}"
    return text


def first_column(text: str) -> str:
    return "\n".join(re.findall(r"^\|([^|]+)\|", text, re.MULTILINE))


def test_settings_named_in_the_caps_table_are_settings() -> None:
    named = set(
        re.findall(r"`(\w+)`", first_column(section("docs/architecture.md", "What caps what")))
    )
    assert len(named) > 10
    assert named <= set(Settings.model_fields)


def test_every_counter_is_explained() -> None:
    explained = first_column(section("docs/architecture.md", "What a worker says of itself"))
    assert set(re.findall(r"`(\w+)`", explained)) == set(Counts.__struct_fields__)


def test_every_reason_of_a_dead_letter_is_explained() -> None:
    explained = re.findall(r"`([a-z-]+)`", first_column(section("docs/topics.md", "Dead letters")))
    assert explained[0] == "reason"
    assert sorted(explained[1:]) == sorted(reasons_in_the_code())


def reasons_in_the_code() -> set[str]:
    """Return the first slug given to every InvalidEvent and DeadLetter of the source."""
    found = set()
    for folder in ("state", "stream_app"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                called = isinstance(node, ast.Call) and getattr(node.func, "id", "")
                if called in ("InvalidEvent", "DeadLetter"):
                    slugs = [a.value for a in node.args if is_slug(a)]
                    found.update(slugs[:1])
    return found


def is_slug(argument: ast.expr) -> bool:
    value = getattr(argument, "value", None)
    return isinstance(value, str) and bool(re.fullmatch(r"[a-z]+(-[a-z]+)*", value))


def test_the_avro_prefix_is_the_schemas() -> None:
    for prefix, schema in update_schemas.BY_PREFIX.items():
        assert f"`{prefix.hex()}`" in text_of("docs/topics.md")
        assert f"(../stream_app/{schema.file})" in text_of("docs/topics.md")


def test_the_glossary_is_in_order_and_has_each_word_once() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", text_of("docs/glossary.md"), re.MULTILINE)
    assert len(words) > 30
    for before, after in itertools.pairwise(words):
        assert before.lower() < after.lower()


def test_every_decision_is_listed_and_has_its_parts() -> None:
    folder = ROOT / "docs" / "decisions"
    index = text_of("docs/decisions/README.md")
    found = sorted(path for path in folder.glob("[0-9]*.md"))
    for number, path in enumerate(found, 1):
        title, *_ = path.read_text(encoding="utf-8").splitlines()
        assert path.name.startswith(f"{number:04}-")
        assert f"| [{number:04}]({path.name}) | {title.removeprefix(f'# {number:04} ')} |" in index
        for part in ("**Context.**", "**Decision.**", "**Consequence.**"):
            assert part in path.read_text(encoding="utf-8"), path.name


def test_the_newest_change_is_of_this_version() -> None:
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]
    newest = re.search(r"^## (\S+)", text_of("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_the_example_of_a_reader_has_fifteen_lines_of_code_and_nothing_of_ours() -> None:
    source = text_of("examples/read_updates.py")
    tree = ast.parse(source)
    docstring_lines = (tree.body[0].end_lineno or 0) if ast.get_docstring(tree) else 0
    code = [line for line in source.splitlines()[docstring_lines:] if line.strip()]
    assert len([line for line in code if not line.lstrip().startswith("#")]) <= 15
    for name in ("read_updates.py", "send_events.py"):
        assert "stream_app" not in text_of(f"examples/{name}")
