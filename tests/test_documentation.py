"""The documentation against the program: what it names must exist, and what operators meet must be named."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tokenize
from functools import cache
from pathlib import Path

import pytest

from registry.config.mistakes import dotted_keys
from registry.config.settings import Settings
from registry.oci import errors
from registry.oci.errors import RegistryError

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")], key=str)
MARKDOWN = sorted([ROOT / "CHANGELOG.md", *PAGES, *(ROOT / "docs" / "proposals").glob("*.md")], key=str)
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
markdown = pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.name)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pages
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors_of(file), target


@pages
def test_every_file_of_the_project_that_is_named_is_there(page: Path) -> None:
    for name in re.findall(r"`((?:tests|registry|migrations|docs)/[\w./-]+)`", page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists(), name


@pages
def test_every_key_of_the_configuration_that_is_named_is_one(page: Path) -> None:
    keys = set(dotted_keys(Settings))
    named = re.findall(rf"`(?:{'|'.join(Settings.model_fields)})\.\w+`", page.read_text(encoding="utf-8"))
    for key in named:
        assert key.strip("`") in keys, key


def test_every_error_that_a_client_can_meet_is_explained() -> None:
    page = text_of("docs/operations.md")
    for error in vars(errors).values():
        if not (isinstance(error, type) and issubclass(error, RegistryError)):
            continue
        row = rf"^\| (?=[^|]*\b{error.status}\b)(?=[^|]*`{error.code}`)"
        assert re.search(row, page, re.MULTILINE), f"{error.status} {error.code}"


@cache
def exposed() -> dict[str, str]:
    """Every metric of a scrape, with its type."""
    # In a process of its own: the library decides at its import how values are kept.
    script = "from registry.observability.metrics.metrics import Metrics; print(Metrics().render().decode())"
    rendered = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    found = dict(re.findall(r"^# TYPE (\w+) (counter|histogram|gauge)$", rendered, re.MULTILINE))
    return {name: kind for name, kind in found.items() if not name.endswith("_created")}


def literals_of(directory: str) -> set[str]:
    """Every text in double quotes in the code of the product."""
    files = (ROOT / directory).rglob("*.py")
    return {text for file in files for text in re.findall(r'"([\w.]+)"', file.read_text(encoding="utf-8"))}


def test_every_metric_is_explained_and_none_is_invented() -> None:
    rows = re.findall(
        r"^\| `((?:registry|storage)_\w+)` \| (\w+)(?:: ([^|]+))? \|", text_of("docs/operations.md"), re.MULTILINE
    )
    assert sorted(exposed().items()) == sorted((name, kind) for name, kind, _labels in rows)
    labels = literals_of("registry/observability")
    for name, _kind, named in rows:
        for label in re.findall(r"`(\w+)`", named):
            assert label in labels, f"{name}: {label}"


@pages
def test_every_metric_in_a_text_is_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\b(?:registry|storage)_\w+_(?:total|seconds|bytes|info)\b", text):
        assert name in exposed(), name


def test_every_operation_that_the_page_on_metrics_names_is_a_value_of_its_label() -> None:
    section = re.search(r"^## Metrics$(.*?)^## ", text_of("docs/operations.md"), re.MULTILINE | re.DOTALL)
    assert section is not None
    paragraphs = [text for text in section[1].split("\n\n") if "operation" in text]
    named = {name for text in paragraphs for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)?)`", text)}
    assert {"writer.publish", "put_object", "objects.insert"} <= named
    amazon = re.findall(r"_client\.(\w+)", "".join(path.read_text() for path in (ROOT / "registry").rglob("*.py")))
    assert named - exposed().keys() <= literals_of("registry") | set(amazon)


def test_every_field_of_the_request_log_is_explained() -> None:
    source = text_of("registry/observability/request_log.py")
    fields = set(re.findall(r'^\s+"(\w+)": ', source, re.MULTILINE)) | set(re.findall(r'fields\["(\w+)"\] =', source))
    page = text_of("docs/operations.md")
    assert len(fields) > 10
    for field in fields:
        assert f"`{field}`" in page, field


def test_the_mistake_in_the_readme_is_answered_as_printed(tmp_path: Path) -> None:
    block = re.search(r"```sh\n([^`]*config check)\n```\n```text\n([^`]*)\n```", text_of("README.md"))
    assert block is not None
    command = block[1].replace(".venv/bin/registry", str(Path(sys.executable).with_name("registry")))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (2, block[2])


def test_the_backup_of_a_running_registry_takes_names_first_and_leaves_our_own_files(tmp_path: Path) -> None:
    block = re.search(r"```sh\n(cd registry-data\n[^`]*)\n```", text_of("docs/operations.md"))
    assert block is not None
    root = tmp_path / "registry-data"
    names = {"team/app/index.json", "team/app/oci-layout", "team/app/.journal/0000000000000000.jsonl"}
    blobs = {"team/app/blobs/sha256/aa", "team/app/blobs/sha256/bb", "team/blobs-of/app/blobs/sha512/cc"}
    for name in (*names, *blobs, ".database/registry.db", ".uploads/x", ".locks/00"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    subprocess.run(["sh", "-ec", block[1]], check=True, cwd=tmp_path, timeout=60)
    for archive, expected in (("backup-1.tar", names), ("backup-2.tar", blobs)):
        with tarfile.open(tmp_path / archive) as content:
            assert {name.removeprefix("./") for name in content.getnames()} == expected


def test_every_event_that_is_named_is_logged_somewhere() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "registry").rglob("*.py"))
    rows = re.findall(r"^\| (`[^|]+`) \| (?:error|warning|info) \|", text_of("docs/operations.md"), re.MULTILINE)
    events = [event for row in rows for event in re.findall(r"`([^`]+)`", row)]
    assert len(events) > 10
    for event in events:
        assert event.removesuffix(" ...") in source, event


def prose_of(page: Path) -> list[tuple[int, str]]:
    """The numbered lines of a page without its code blocks, tables and headings."""
    lines: list[tuple[int, str]] = []
    in_code = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip().startswith("```"):
            in_code = not in_code
        elif not in_code and not line.startswith(("|", "#")):
            lines.append((number, line))
    return lines


@markdown
def test_a_line_of_markdown_has_at_most_120_columns_and_one_sentence(page: Path) -> None:
    for number, line in prose_of(page):
        assert len(line) <= 120, f"{page.name}:{number}: {len(line)} columns"
        text = re.sub(r"\(.*", "", re.sub(r"`[^`]*`", "code", line))
        assert not re.search(r"[a-z)][.!?] [A-Z][a-z]+ ", text), f"{page.name}:{number}: {line}"


GLOSSARY = re.findall(r"^\| \*\*([^*]+)\*\*([^|]*)\|([^|]*)\|([^|]*)\|$", text_of("docs/glossary.md"), re.MULTILINE)


def words_of_the_code() -> tuple[str, set[str]]:
    """The text of the product and of its documents without the glossary; the words of its modules and classes."""
    sources = list((ROOT / "registry").rglob("*.py"))
    texts = [path.read_text(encoding="utf-8") for path in [*sources, *MARKDOWN] if path.name != "glossary.md"]
    classes = re.findall(r"^ *class (\w+)", "\n".join(texts), re.MULTILINE)
    names = {path.stem for path in sources} | {re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name) for name in classes}
    return "\n".join(texts).lower(), {word for name in names for word in name.lower().split("_")}


def test_every_term_of_the_glossary_is_used_and_explained_in_one_sentence() -> None:
    text, _names = words_of_the_code()
    assert len(GLOSSARY) >= 40
    for term, _more, sentence, _forbidden in GLOSSARY:
        word = re.sub(r" of a \w+$", "", term)
        assert re.search(rf"\b{word}", text), f"nothing speaks of {term}"
        assert sentence.strip().endswith("."), term
        assert not re.search(r"[a-z)]\. [A-Z]", sentence), f"{term} has more than one sentence"


def test_no_module_or_class_has_a_word_that_the_glossary_forbids() -> None:
    _text, names = words_of_the_code()
    forbidden = {word.strip() for *_, words in GLOSSARY for word in words.split(",") if word.strip()}
    assert forbidden
    assert not forbidden & names


MODULES = [path.relative_to(ROOT).as_posix() for path in (ROOT / "registry").rglob("*.py")]
PACKAGES = sorted({module.split("/")[1] for module in MODULES if module.count("/") > 1})


@cache
def code_of(*directories: str) -> str:
    files = (path for directory in directories for path in (ROOT / directory).rglob("*.py"))
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@markdown
def test_every_module_and_class_that_is_named_is_one(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # names what was there then
    text = page.read_text(encoding="utf-8")
    for name in re.findall(rf"`((?:{'|'.join(PACKAGES)})/[\w/]*(?:\.py)?)`", text):
        is_key = name.startswith(("storage/blobs", "storage/migrations"))
        assert is_key or (ROOT / "registry" / name).exists(), name
    for name in re.findall(r"`(registry(?:\.[a-z_]+)+)`", text):
        path = ROOT / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").exists(), name
    code = code_of("registry", "tests", "benchmarks")
    for name in re.findall(r"`([A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+)(?:\.\w+)?`", text):
        assert re.search(rf"\b{name}\b", code), name
    for name in re.findall(r"`([a-z0-9_]+\.py)`", text):
        assert any(module.endswith(f"/{name}") for module in MODULES) or list((ROOT / "tests").rglob(name)), name


HEADLESS = r"\b(?:who|whoever|whom|nobody|somebody)\b"
"""What stands where a subject that acts should: caller, client, replica, process, operator."""


@markdown
def test_a_sentence_of_markdown_has_a_subject_that_acts(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # says what earlier releases said
    in_code = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        in_code ^= line.strip().startswith("```")
        text = re.sub(r"`[^`]*`", "", line)
        found = None if in_code else re.search(HEADLESS, text, re.IGNORECASE)
        assert found is None, f"{page.name}:{number}: {line}"


def remarks_of(path: Path) -> list[tuple[int, str]]:
    """The numbered lines of the docstrings and comments of a module."""
    lines: list[tuple[int, str]] = []
    with path.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and '"""' in token.string):
                lines.extend(enumerate(token.string.splitlines(), token.start[0]))
    return lines


@pytest.mark.parametrize("package", ["registry", "migrations", "benchmarks", "tests/support", "tests"])
def test_a_remark_in_the_code_has_a_subject_that_acts(package: str) -> None:
    clauses = r"|\bothers\b|(?-i:(?:^|[.;:] )Of |\b(?:None|False): [a-z])" if package != "tests" else ""
    unclear = re.compile(HEADLESS + clauses, re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for number, line in remarks_of(path)
        if unclear.search(line.strip(' "#'))
    ]
    assert not found, "\n".join(found)
