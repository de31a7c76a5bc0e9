"""``bot-onnx report``: its sliders say what ``resize --dry-run`` says, and nothing on the page is more than text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner, Result

import bot_onnx
from bot_onnx._cli import cli
from bot_onnx._installing import install
from bot_onnx.demo import model_bytes
from tests import pages
from tests.graphs import residual_mlp_model, save


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def done(*arguments: str | Path) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def planned(arguments: list[str], folder: Path) -> dict[str, int]:
    """What the plan of a command says that its network costs."""
    plan = json.loads(done(*arguments, "--dry-run", "--json", "-o", folder / "out.onnx").stdout)
    costs: dict[str, int] = plan["costs"][1]
    assert plan["parameters"][1] == costs["parameters"]
    return {key: costs[key] for key in pages.NUMBERS}


@pytest.mark.thorough
@pytest.mark.parametrize("name", list(pages.NETWORKS))
def test_the_sliders_agree_with_the_plan_to_the_unit(name: str, tmp_path: Path) -> None:
    model = save(pages.NETWORKS[name](), tmp_path)
    html = bot_onnx.report(model).html
    data = pages.data_of(html)
    kinds = {"cnn": {"width"}, "towers": {"layers", "width"}}
    assert {one["kind"] for one in data["sliders"]} == kinds.get(name, {"layers", "size"})
    positions = pages.ends(data)
    scripted = pages.scripted(html, positions)
    seen = set()
    for at, told in zip(positions, scripted, strict=True):
        numbers = {key: told[key] for key in pages.NUMBERS}
        assert numbers == pages.computed(data, at)
        assert numbers == planned(pages.resize_arguments(told["command"]), tmp_path), told["command"]
        seen.add(tuple(numbers.values()))
    assert len(seen) >= 4


def test_a_step_of_hidden_leads_the_others_to_where_they_would_go_by_themselves(tmp_path: Path) -> None:
    model = save(pages.bert(), tmp_path)
    data = bot_onnx.report(model).data
    hidden = next(one for one in data["sliders"] if one["key"] == "hidden")
    step = next(one for one in hidden["steps"] if one["value"] == 16)
    assert step["leads"] == {"heads": 2, "intermediate": 48}
    alone = bot_onnx.plan(model, {"hidden": 16}).costs
    at = {"hidden": hidden["steps"].index(step)}
    for one in data["sliders"]:
        if one["key"] in step["leads"]:
            at[one["key"]] = [entry["value"] for entry in one["steps"]].index(step["leads"][one["key"]])
    assert alone is not None
    assert pages.computed(data, at) == {key: getattr(alone[1], key) for key in pages.NUMBERS}


def test_held_against_its_source_it_tells_what_was_before_and_what_is_kept(tmp_path: Path) -> None:
    source, small, page = tmp_path / "vit.onnx", tmp_path / "small.onnx", tmp_path / "page.html"
    source.write_bytes(model_bytes())
    done("resize", source, "--layers", "3", "--hidden", "32", "-o", small)
    done("report", small, "--against", source, "-o", page, "--latency")
    html = page.read_text()
    text = texts(html)
    before, after = bot_onnx.inspect(source).costs, bot_onnx.inspect(small).costs
    assert f"302.2 k -> {after.parameters / 1000:.1f} k" in text and before.parameters == 302154
    assert "6 -> 3" in text and "proven" in text and "not kept, as planned" in text
    assert "the one it is held against" in text and "not known: no file holds those that it passed" in text
    assert text.count(" %") > 6 and "latency (1 thread)" in text

    done("report", source, "--against", small, "-o", page, "--force")
    text = texts(page.read_text())
    assert "not known: the file does not say that it was resized" in text
    assert "energy kept" in text and "100 %" not in text


def texts(html: str) -> str:
    """What people read on a page."""
    return Read.of(html).text.replace("\u00a0", " ")


class Read(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._raw = False

    @classmethod
    def of(cls, html: str) -> Read:
        made = cls()
        made.feed(html)
        made.close()
        return made

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._raw = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.text += data


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&\x07"


def hostile() -> onnx.ModelProto:
    """A network whose every name is an attack."""
    model = residual_mlp_model()
    for number, node in enumerate(model.graph.node):
        node.name = f"{HOSTILE}{number}"
    names = {tensor.name: f"{HOSTILE}{tensor.name}" for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, f"{HOSTILE}x" if name == "x" else name)
    model.graph.input[0].name = f"{HOSTILE}x"
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = HOSTILE
    model.producer_name = HOSTILE
    entry = model.metadata_props.add()
    told = {"spec": {HOSTILE: HOSTILE}, "proof": HOSTILE, "source_sha256": HOSTILE}
    entry.key, entry.value = "bot_onnx", json.dumps(told)
    return model


def test_names_stay_text(tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x onerror=alert(3)>'\"&"
    folder.mkdir()
    model = save(hostile(), folder)
    fit = tmp_path / "fit.json"
    fit.write_text(json.dumps(fitted(HOSTILE)))
    html = bot_onnx.report(model, fit=fit, against=model).html
    read = Read.of(html)
    assert read.tags.count("script") == 2 and "img" not in read.tags
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in read.text and "\x07" not in html
    command = pages.scripted(html, [{}])[0]["command"]
    assert pages.resize_arguments(command)[:2] == ["resize", str(model)]


def fitted(label: str = "layers", **changes: Any) -> dict[str, Any]:
    costs = {"parameters": 1000, "macs": 2000}
    source = {"path": label, "size_bytes": 5000, "costs": costs, "seconds": 0.001}
    one = {"spec": {label: 3}, "size_bytes": 2500, "costs": costs, "kept": 0.5, "seconds": None}
    return {"source": source, "candidates": [{**one, **changes}], "pick": {label: 3}}


@pytest.mark.thorough
def test_the_candidates_of_a_fit_are_drawn(tmp_path: Path) -> None:
    model, page, fit = tmp_path / "vit.onnx", tmp_path / "page.html", tmp_path / "fit.json"
    model.write_bytes(model_bytes())
    found = done("fit", model, "--max-size", "400kB", "--no-latency", "--json").stdout
    fit.write_text(found)
    done("report", model, "--fit", fit, "-o", page)
    candidates = json.loads(found)["candidates"]
    html = page.read_text()
    assert html.count("<circle") == len(candidates) + 1
    assert all(f"{one['kept'] * 100:.1f} %" in texts(html) for one in candidates)


@pytest.mark.parametrize(
    "told",
    ["no json", "[]", "{}", json.dumps(fitted(kept=2)), json.dumps(fitted(kept="x")), json.dumps(fitted(size_bytes=-1)),
     json.dumps(fitted(size_bytes=True)), '{"source": 1}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_fit_is_refused_by_name(told: str, tmp_path: Path) -> None:
    model, fit = save(residual_mlp_model(), tmp_path), tmp_path / "fit.json"
    fit.write_text(told)
    result = run("report", model, "--fit", fit, "-o", tmp_path / "page.html")
    assert result.exit_code == 1 and "fit.json" in result.output and "fit MODEL --json" in result.output
    assert not (tmp_path / "page.html").exists()


def test_outputs_are_guarded(tmp_path: Path) -> None:
    model, page = save(residual_mlp_model(), tmp_path), tmp_path / "page.html"
    kept = model.read_bytes()
    done("report", model, "-o", page, "--quiet")
    assert "exists" in run("report", model, "-o", page).output
    done("report", model, "-o", page, "--force")
    for output in (model, tmp_path / "source.onnx"):
        (tmp_path / "source.onnx").write_bytes(kept)
        result = run("report", model, "--against", tmp_path / "source.onnx", "-o", output, "--force")
        assert result.exit_code == 1 and output.read_bytes() == kept
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "source.onnx", "page.html"}


def test_json_has_what_the_page_computes_with(tmp_path: Path) -> None:
    model, page = save(residual_mlp_model(), tmp_path), tmp_path / "page.html"
    told = json.loads(done("report", model, "-o", page, "--json").stdout)
    assert told["output"] == str(page) and told["bytes"] == page.stat().st_size
    assert told["data"] == pages.data_of(page.read_text())


@pytest.mark.thorough
def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    save(pages.tied_decoder(), tmp_path)
    made = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        call = [sys.executable, "-m", "bot_onnx", "report", "model.onnx", "-q", "-o", f"{seed}.html"]
        subprocess.run(call, cwd=tmp_path, env=environment, check=True)
        made.append((tmp_path / f"{seed}.html").read_bytes())
    assert made[0] == made[1]


def test_without_jinja2_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    result = run("report", tmp_path / "missing.onnx", "-o", tmp_path / "page.html")
    assert result.exit_code == 1 and install("report") in result.output


def test_the_page_asks_for_nothing_from_outside(tmp_path: Path) -> None:
    html = bot_onnx.report(save(residual_mlp_model(), tmp_path)).html
    read = Read.of(html)
    links = [value for name, value in read.attributes if name in ("src", "href", "action", "srcset")]
    assert links == ["data:,"] and "http:" not in html and "https:" not in html and "@import" not in html
    assert "default-src 'none'" in html


def browser_page(playwright: Any, html: Path, **context: Any) -> tuple[Any, list[str]]:
    """A page in a headless browser, and what went wrong there."""
    path = os.environ.get("BOT_ONNX_TEST_BROWSER")
    try:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
    except playwright_errors() as error:
        pytest.skip(f"no browser (BOT_ONNX_TEST_BROWSER names one): {str(error).splitlines()[0]}")
    page, wrong = browser.new_context(**context).new_page(), []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: None if request.url == html.as_uri() else wrong.append(request.url))
    page.goto(html.as_uri())
    return page, wrong


def playwright_errors() -> type[Exception]:
    from playwright.sync_api import Error

    found: type[Exception] = Error
    return found


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_sliders_change_numbers_and_nothing_overflows(width: int, scheme: str, tmp_path: Path) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    source, small, html = tmp_path / "vit.onnx", tmp_path / "small.onnx", tmp_path / "page.html"
    source.write_bytes(model_bytes())
    done("resize", source, "--layers", "3", "--hidden", "32", "-o", small)
    done("report", small, "--against", source, "-o", html)
    data: Mapping[str, Any] = pages.data_of(html.read_text())
    with api.sync_playwright() as playwright:
        page, wrong = browser_page(
            playwright, html, viewport={"width": width, "height": 800}, color_scheme=scheme
        )  # fmt: skip
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 28)")
        at = {one["key"]: one["start"] for one in data["sliders"]}

        def shown() -> dict[str, int]:
            return {key: int(page.inner_text(f"#exact-{key}").replace(",", "")) for key in pages.NUMBERS}

        assert shown() == pages.computed(data, at)
        page.get_by_label("layers", exact=True).focus()
        page.keyboard.press("ArrowRight")  # a key moves it a step
        at["layers layers"] += 1
        assert shown() == pages.computed(data, at) and "--layers 4 " in page.inner_text("#command")
        page.get_by_label("heads and intermediate sizes follow hidden").uncheck()
        page.get_by_label("hidden", exact=True).fill("0")
        at["hidden"] = 0
        assert shown() == pages.computed(data, at) and page.inner_text("#slider-2-out") == "16"
        page.get_by_role("button", name="As the model").click()
        assert shown() == pages.computed(data, {})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth") and not wrong
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.context.browser.close()
