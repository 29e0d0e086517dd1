"""Windows to vectors through the encoder process: flat arrays there, poison kept apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, compress
from typing import Protocol

import numpy as np

from encoders.interface import (
    Float32,
    Int32,
    Interests,
    TextReport,
    WindowBatch,
)
from state.window import Window
from stream_app.dead_letters import DeadLetter
from stream_app.encoded import Encoded, joined
from stream_app.encoder_child import (
    request_forgetting,
    request_interests,
    request_item_vectors,
    request_texts,
)
from stream_app.encoder_process import EncoderFailed, EncoderProcess, EncoderRaised
from stream_app.row_table import NEW, RowsExhausted, TextRows
from stream_app.status import Counts
from stream_app.text_keys import inline_key, inline_text, is_item, text_keys
from stream_app.window_columns import SLICE_USERS, columns_of

_SLICE_BYTES = 2_048
"""Of a slice's texts, unless one alone has more: 450 tokens of English, 50 ms of a core at 9,000
tokens/s. Other texts have up to a token a byte; each is cut at max_text_tokens."""
_MAX_POISON = 10_000
_DEATHS_MAX = 50
"""In a row: halving a micro-batch of thousands down to one user takes half as many."""
_NOT_FINITE = "the encoder gave a vector with NaN or infinity in it"


class Texts(Protocol):
    """Where item texts come from."""

    def texts(self, item_ids: Sequence[str]) -> list[str | None]:
        """Return each item's text, ``None`` where the catalogue has none (yet)."""

    def media(self, item_ids: Sequence[str]) -> list[Float32 | None]:
        """Return what each item brings beside its text, ``None`` where it brings nothing."""


class _Rebuild(Exception):
    """The poison among the texts was found; the others have to be put again."""


class WindowEncoder:
    """Turns windows into vectors, whatever a single text or user does to the encoder.

    A request that fails is tried again once; failing twice, it is halved until the text or user
    that harms it is alone. ``bury`` takes poison texts.
    """

    def __init__(
        self,
        process: EncoderProcess,
        texts: Texts,
        counts: Counts,
        *,
        rows: int,
        with_granularities: bool,
        with_several: bool = False,
        bury: Callable[[DeadLetter], None],
    ) -> None:
        self._process = process
        self._texts = texts
        self._counts = counts
        self._rows = TextRows(rows)
        self._rows_epoch = process.epoch
        self._with_granularities = with_granularities
        self._with_several = with_several
        self._bury = bury
        self._gathering = asyncio.Lock()
        self._poison: dict[str, str] = {}
        self._without_media: dict[str, None] = {}
        """Items whose media vector the model does not take: each is told of once."""
        self._suspicious = False
        """The last texts put failed once: the next failure is theirs, not chance."""

    def items_changed(self, item_ids: Sequence[str]) -> set[str]:
        """Look these items up anew: the catalogue has another text for them.

        Returns those that were looked up before and not known then.
        """
        arrived = self._rows.unknown.keys() & set(item_ids)
        for item_id in item_ids:
            self._rows.discard(item_id)
            self._poison.pop(item_id, None)
            self._without_media.pop(item_id, None)
        return arrived

    async def forget(self, texts: Sequence[str]) -> None:
        """Drop a forgotten user's own texts from the encoder's memory and disk.

        Another user with the very same text only has it embedded anew. A process that dies takes
        this request with it, though it died of another, and does so until the other's is found.

        Raises:
            EncoderFailed: it raised twice, or died again and again.
        """
        raised = 0
        for tries in range(1, _DEATHS_MAX + 1):
            try:
                return await self._forget(texts)
            except EncoderFailed as error:
                raised += isinstance(error, EncoderRaised)
                if raised == 2 or tries == _DEATHS_MAX:
                    raise

    async def _forget(self, texts: Sequence[str]) -> None:
        async with self._gathering:
            rows = []
            for text in texts:
                key = inline_key(text)
                rows.append((max(self._rows[key], -1), text))
                self._rows.discard(key)
                self._poison.pop(key, None)
        await self._process.call(request_forgetting, rows)

    async def encode(
        self, windows: Sequence[Window], *, with_granularities: bool | None = None
    ) -> Encoded:
        """Return the vectors of the windows; a window that cannot be encoded has a failure.

        ``with_granularities``: in place of what updates are to hold.
        """
        granular = self._with_granularities if with_granularities is None else with_granularities
        if not windows:
            return Encoded(np.empty((0, 0), np.float32), None, None, {})
        failure = ""
        for _ in range(2):
            try:
                interests, text_s = await self._request(windows, granular)
            except EncoderFailed as error:
                failure = str(error)
            except RowsExhausted as error:
                failure = str(error)
                break
            else:
                return Encoded(
                    interests.vectors, interests.granularities, interests.several, {}, text_s
                )
        if len(windows) == 1:
            info = self._process.info
            assert info is not None
            nothing = np.zeros((1, info.dimensions), np.float32)
            return Encoded(nothing, None, None, {0: failure})
        middle = len(windows) // 2
        left = await self.encode(windows[:middle], with_granularities=granular)
        right = await self.encode(windows[middle:], with_granularities=granular)
        return joined(left, right, middle)

    async def item_vectors(self, item_ids: Sequence[str]) -> tuple[list[str], Float32]:
        """Return the items that have a vector, and the vectors [N, D].

        New texts go a slice at a time: a micro-batch of users waits for no more than one.

        Raises:
            EncoderFailed: twice in a row; the process is up again.
        """
        for part in self.new_slices(item_ids):
            await self.put_slice(part)
        try:
            return await self._item_vectors(item_ids)
        except EncoderFailed:
            return await self._item_vectors(item_ids)

    async def vectors_by_key(self, keys: Sequence[str]) -> dict[str, Float32]:
        """Return the vectors [D] of texts in the space of the items, of those that have one.

        ``keys``: of :mod:`stream_app.text_keys`.

        Raises:
            EncoderFailed: twice in a row; the process is up again.
        """
        found, vectors = await self.item_vectors(list(dict.fromkeys(keys)))
        return dict(zip(found, vectors, strict=True))

    def new_slices(self, keys: Sequence[str]) -> Iterator[list[str]]:
        """Yield the keys whose texts are still to be embedded, as many at once as is good.

        For :meth:`put_slice`, one after the other: a round that wants the encoder meanwhile waits
        for one slice, and goes before the next.
        """
        started_anew = self._rows_epoch != self._process.epoch
        new = [key for key in dict.fromkeys(keys) if started_anew or self._rows[key] == NEW]
        items = [key for key in new if is_item(key)]
        text_of = dict(zip(items, self._texts.texts(items), strict=True))
        part: list[str] = []
        part_bytes = 0
        for key in new:
            size_bytes = len((text_of.get(key, key) or "").encode("utf-8", "surrogatepass"))
            if part and part_bytes + size_bytes > _SLICE_BYTES:
                yield part
                part, part_bytes = [], 0
            part.append(key)
            part_bytes += size_bytes
        if part:
            yield part

    async def put_slice(self, keys: Sequence[str]) -> None:
        """Have the texts of the keys embedded, and nothing more yet.

        Raises:
            EncoderFailed: twice in a row; the process is up again.
        """
        try:
            await self._put_slice(keys)
        except EncoderFailed:
            await self._put_slice(keys)

    async def _put_slice(self, keys: Sequence[str]) -> None:
        async with self._gathering:
            await self._settled_rows([keys])

    async def _item_vectors(self, item_ids: Sequence[str]) -> tuple[list[str], Float32]:
        async with self._gathering:
            rows = await self._settled_rows([item_ids])
        has_text = rows >= 0
        vectors = await self._process.call(request_item_vectors, rows[has_text])
        known = [item for item, known in zip(item_ids, has_text, strict=True) if known]
        good = np.isfinite(vectors @ np.ones(vectors.shape[1], np.float32))
        for item in compress(known, ~good):
            own = self._texts.texts([item])[0] if is_item(item) else inline_text(item)
            self._condemn(item, own or "", _NOT_FINITE)
        return list(compress(known, good)), vectors[good]

    async def _request(self, windows: Sequence[Window], granular: bool) -> tuple[Interests, float]:
        """Return what the encoder says, and how long the texts took before it was asked."""
        begun_s = time.perf_counter()
        async with self._gathering:
            columns = await columns_of(windows)
            rows = await self._settled_rows([text_keys(window) for window in windows])
        # Nothing may wait between the lock and the call: the process answers in order, so no
        # other micro-batch can put a text into one of our rows before our request is through.
        counts = np.array([window.counts for window in windows], np.int64)
        batch = WindowBatch(rows, *columns, counts)
        text_s = time.perf_counter() - begun_s
        interests = await self._process.call(request_interests, batch, granular, self._with_several)
        _must_be_finite(interests)
        return interests, text_s

    async def _settled_rows(self, keys: Sequence[Sequence[str]]) -> Int32:
        """Return the row of every key, after the encoder process has taken up all new texts."""
        while True:
            if self._rows_epoch != self._process.epoch:
                self._rows_epoch = self._process.epoch
                self._rows.reset()
            self._rows.new_batch()
            rows, new = await self._resolved(keys)
            try:
                if new:
                    await self._put(new)
            except EncoderFailed:
                self._rows.reset()  # which of the texts arrived is not known
                raise
            except _Rebuild:
                self._rows.reset()
            else:
                condemned = self._rows.unknown.keys() & {key for key, _, _ in new}
                if not condemned and self._rows_epoch == self._process.epoch:
                    return rows

    async def _resolved(
        self, keys: Sequence[Sequence[str]]
    ) -> tuple[Int32, list[tuple[str, int, str]]]:
        """Return the row of every key, and (key, row, text) of the texts to be put there."""
        parts: list[Int32] = []
        new: list[tuple[str, int, str]] = []
        look_up = self._rows.__getitem__
        for start in range(0, len(keys), SLICE_USERS):
            if start:
                await asyncio.sleep(0)
            flat = list(chain.from_iterable(keys[start : start + SLICE_USERS]))
            rows = np.fromiter(map(look_up, flat), np.int32, len(flat))
            self._rows.use(rows)
            fresh = np.flatnonzero(rows == NEW).tolist()
            if fresh:
                self._assign(list(dict.fromkeys(flat[at] for at in fresh)), new)
                for at in fresh:
                    rows[at] = look_up(flat[at])
            parts.append(rows)
        return (np.concatenate(parts) if parts else np.empty(0, np.int32)), new

    def _assign(self, keys: Sequence[str], new: list[tuple[str, int, str]]) -> None:
        """Give rows to keys whose text is known, and add (key, row, text) of each to ``new``.

        Raises:
            RowsExhausted: and none of ``new`` has a row any more, for their texts never get there.
        """
        item_ids = [key for key in keys if is_item(key)]
        known: dict[str, str | None] = dict(zip(item_ids, self._texts.texts(item_ids), strict=True))
        try:
            for key in keys:
                text = known[key] if key in known else inline_text(key)
                if text is None or key in self._poison:
                    self._rows.mark_unknown(key)
                    self._counts.unknown_items += text is None
                else:
                    new.append((key, self._rows.assign(key), text))
        except RowsExhausted:
            for key, _, _ in new:
                self._rows.discard(key)
            raise

    async def _put(self, texts: list[tuple[str, int, str]]) -> None:
        """Put texts into their rows; find the poison if that fails twice."""
        try:
            report = await self._request_texts(texts)
        except EncoderFailed as error:
            if not self._suspicious:
                self._suspicious = True
                raise
            await self._halve(texts, error)
            self._suspicious = False
            raise _Rebuild from error
        self._suspicious = False
        counts = self._counts
        counts.texts_encoded += report.encoded
        counts.tokens += report.tokens
        counts.text_hits_memory += report.hits_memory
        counts.text_hits_disk += report.hits_disk
        failed = dict(report.failed)
        for key, row, text in texts:
            if row in failed:
                self._condemn(key, text, failed[row])
        self._tell_of_media(texts, dict(report.media_refused))

    async def _request_texts(self, texts: Sequence[tuple[str, int, str]]) -> TextReport:
        media: dict[int, Float32] = {}
        info = self._process.info
        if info is not None and info.media_dimensions:
            items = [(key, row) for key, row, _ in texts if is_item(key)]
            found = self._texts.media([key for key, _ in items])
            media = {
                row: vector
                for (_, row), vector in zip(items, found, strict=True)
                if vector is not None
            }
        rows = [(row, text) for _, row, text in texts]
        return await self._process.call(request_texts, rows, media)

    def _tell_of_media(
        self, texts: Sequence[tuple[str, int, str]], refused: Mapping[int, str]
    ) -> None:
        """The items count by their texts; a person is told, once."""
        for key, row, text in texts:
            if row not in refused or key in self._without_media:
                continue
            self._without_media[key] = None
            if len(self._without_media) > _MAX_POISON:
                del self._without_media[next(iter(self._without_media))]
            self._counts.media_refused += 1
            self._bury(
                DeadLetter(
                    key.encode(), text.encode(), "media-not-usable", refused[row], "", -1, -1
                )
            )

    async def _halve(self, texts: list[tuple[str, int, str]], error: EncoderFailed) -> None:
        if len(texts) == 1:
            key, _, text = texts[0]
            self._condemn(key, text, str(error))
            return
        middle = len(texts) // 2
        for half in (texts[:middle], texts[middle:]):
            try:
                await self._request_texts(half)
            except EncoderFailed as failure:
                await self._halve(half, failure)

    def _condemn(self, key: str, text: str, reason: str) -> None:
        """A text no vector can be made of: it counts as unknown, and a person is told."""
        self._rows.discard(key)
        self._rows.mark_unknown(key)
        self._poison[key] = reason
        if len(self._poison) > _MAX_POISON:
            del self._poison[next(iter(self._poison))]
        self._counts.texts_failed += 1
        item_key = key.encode() if is_item(key) else None
        self._bury(DeadLetter(item_key, text.encode(), "text-not-encodable", reason, "", -1, -1))


def _must_be_finite(interests: Interests) -> None:
    """Refuse vectors with NaN or infinity: no reader's dot product survives one.

    Raises:
        EncoderFailed: as if the encoder had raised, so that the users it is of are found.
    """
    for vectors in (interests.vectors, interests.granularities, interests.several):
        # One pass and no array of flags: the sum of squares is finite where every number is, for
        # vectors have unit length.
        if vectors is not None and not np.isfinite(np.vdot(vectors, vectors)):
            raise EncoderFailed(_NOT_FINITE)
