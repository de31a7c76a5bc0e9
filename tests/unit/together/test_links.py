"""What goes from file to file, by names alone."""

from __future__ import annotations

from pathlib import Path

from bot_onnx._together.links import find_links
from bot_onnx._together.view import Member, Named


def file(name: str, inputs: str, outputs: str) -> Named:
    member = Member(name, Path(f"{name}.onnx"), f"{name}.onnx")
    return Named(member, dict.fromkeys(inputs.split()), dict.fromkeys(outputs.split()))


def links(*files: Named, said: tuple[str, ...] = ()) -> set[str]:
    names = [one.member.name for one in files]
    return {f"{names[lk.giver]}:{lk.output}={names[lk.taker]}:{lk.input}" for lk in find_links(files, said)}


def test_an_output_is_the_input_of_its_name_in_another_file() -> None:
    assert links(file("a", "x", "z y"), file("b", "y w", "y")) == {"a:y=b:y"}


def test_customs_of_exporters() -> None:
    encoder = file("e", "input_ids", "last_hidden_state")
    first = file("d", "input_ids encoder_hidden_states", "logits present.0.key last_hidden_state")
    second = file("p", "input_ids past_key_values.0.key", "logits present.0.key")
    assert links(encoder, first, second) == {
        "e:last_hidden_state=d:encoder_hidden_states",
        "d:present.0.key=p:past_key_values.0.key",
        "p:present.0.key=p:past_key_values.0.key",
    }


def test_what_is_said_takes_the_place_of_what_is_found() -> None:
    files = file("a", "x", "y other"), file("b", "y", "z")
    assert links(*files, said=("a:other=b:y",)) == {"a:other=b:y"}
