"""Whom to show an advertisement: the users whose vectors are nearest to its text.

    python examples/audience.py "A weekend of hiking in the Alps, huts included" --count 3

The text goes through the very model that makes the users' vectors, so a cosine ranks. It must be
the same model: run this with the settings of the worker (INTEREST_INTEREST_MODEL above all).
Vectors of another model are not compared; how many users that left out is said.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

import encoders
from stream_app.errors import FixData, FixSettings, InterestStreamError
from stream_app.reader import UpdatesReader
from stream_app.settings import Settings, load
from stream_app.updates import Update

EXAMPLE = 'Example: python examples/audience.py "A weekend of hiking in the Alps" --count 3'

Float32 = npt.NDArray[np.float32]


def audience(
    text: Annotated[str, typer.Argument(help="What is advertised, in its own words.")],
    count: Annotated[int, typer.Option(min=1, help="Users, at most.")] = 10,
    least: Annotated[float, typer.Option(min=-1, max=1, help="No user below this cosine.")] = -1.0,
) -> None:
    """Print the users nearest to a text, as the worker's model has it.

    The settings must be the worker's, for only vectors of one model can be compared.
    """
    settings = load()
    updates = asyncio.run(read_updates(settings))
    vector, model_id = vector_of(text, settings)
    users, vectors = of_model(updates, model_id)
    if not users:
        found = sorted({update.model_id for update in updates.values()})
        raise FixSettings(
            f"no update is of model {model_id}; {settings.updates_topic} has {found or 'nothing'}: "
            "use the worker's settings"
        )
    scores = vectors @ vector
    for at in np.argsort(-scores, kind="stable")[:count]:
        if scores[at] >= least:
            print(f"{scores[at]:+.3f}  {users[at]}")
    reached = int((scores >= least).sum())
    print(f"{reached} of {len(users)} users reach {least:+.2f}", end="")
    others = len(updates) - len(users)
    print(f"; {others} have no vector of this model" if others else "")


def vector_of(text: str, settings: Settings) -> tuple[Float32, str]:
    """Return the vector [D] of a text among the items, and the id of the model that made it.

    Raises:
        FixData: no vector can be made of the text.
    """
    encoder = encoders.build(replace(settings.encoder_config(), cache_dir=""))
    try:
        failed = encoder.put_texts([(0, text)]).failed
        vector = encoder.item_vectors(np.array([0], dtype=np.int32))[0]
        if failed or not vector.any():
            raise FixData(
                f"no vector can be made of {text!r}: {failed[0][1] if failed else 'empty'}"
            )
        return vector, encoder.info.model_id
    finally:
        encoder.close()


def of_model(updates: Mapping[str, Update], model_id: str) -> tuple[list[str], Float32]:
    """Return the users that have a vector of this model, and the vectors [U, D]."""
    users = [
        name
        for name, update in updates.items()
        if update.model_id == model_id and any(update.vector)
    ]
    return users, np.array([updates[name].vector for name in users], dtype=np.float32)


async def read_updates(settings: Settings) -> dict[str, Update]:
    """Return the latest update of every user."""
    async with UpdatesReader(settings.kafka, settings.updates_topic) as reader:
        await reader.catch_up()
        return dict(reader.updates)


def main() -> None:
    """Run; what an operator can mend is one line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(epilog=EXAMPLE)(audience)
    try:
        app()
    except (InterestStreamError, encoders.EncoderError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
