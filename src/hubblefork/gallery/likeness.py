"""Which galaxies of a gallery look alike, once the network has looked at all images: quantities by row.

unfamiliarity     distance to others of the catalogue: the odd ones are far
map.x, map.y      place on the map of the features
like.12345        likeness to a galaxy, the cosine of the angle between their features
tag.ring          score by example: like galaxies that somebody gave the tag "ring", unlike "not ring"
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.trained import weights_file
from hubblefork.errors import CatalogueError, HubbleforkError
from hubblefork.gallery.features import FEATURES, build, features_of, is_built
from hubblefork.gallery.marks import Marks
from hubblefork.gallery.pictures import Pictures
from hubblefork.gallery.similar import MAP, FeatureIndex, map_of
from hubblefork.gallery.store import Store
from hubblefork.images.members import Place
from hubblefork.io import Advance, digest_of
from hubblefork.prediction.predictor import Predictor
from hubblefork.prediction.runtimes import open_network

UNFAMILIARITY, MAP_X, MAP_Y, LIKE, TAG = "unfamiliarity", "map.x", "map.y", "like.", "tag."
NOT = "not "
KEPT = 8


class NotSeen(CatalogueError):
    """What is known only once the network has looked at all images."""


@dataclass
class Likeness:
    """The features of a gallery's images in a `folder`, made in the background when `begin` asks for it.

    `state` is "absent", "working" or "there"; the map comes later. `fault` says why it ended otherwise.
    """

    store: Store
    pictures: Pictures
    model: Place
    folder: Path
    marks: Callable[[], Marks]
    state: str = "absent"
    fault: str = ""
    doing: dict[str, Any] = field(default_factory=dict)
    index: FeatureIndex | None = None
    _tables: dict[str, int] = field(default_factory=dict, repr=False)
    _asked: OrderedDict[Any, int] = field(default_factory=OrderedDict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        self.store.quantities = replace(self.store.quantities, more=self._table)

    def resume(self) -> None:
        """Open in the background what the network saw of these galaxies before; nothing where it did not."""
        if (self.folder / FEATURES).exists():
            self._start(lambda: is_built(self.folder, self._ids(), digest_of(weights_file(Path(self.model)))))

    def begin(self) -> None:
        """Look at all images in the background, or open what was seen before; nothing while that goes on."""
        self._start(self._look)

    @cached_property
    def predictor(self) -> Predictor:
        """The network, which gives features."""
        return Predictor(open_network(Path(self.model), features=True), survey=self.pictures.reading)

    def _start(self, seen: Callable[[], bool]) -> None:
        with self._lock:
            if self.state != "absent":
                return
            self.state, self.fault = "working", ""
        Thread(target=self._work, args=(seen,), daemon=True, name="looking at images").start()

    def _look(self) -> bool:
        build(self.folder, self._ids(), list(self.pictures.places), self.predictor, self._progress)
        return True

    def _work(self, seen: Callable[[], bool]) -> None:
        try:
            if not seen():
                self.state = "absent"
                return
            index = FeatureIndex.open(self.folder)
            self._add({UNFAMILIARITY: index.unfamiliarity(self._progress)})
            self.index, self.state = index, "there"
            if not (self.folder / MAP).exists():
                # UMAP is compiled when it is first used; until then no other thread of a process goes on.
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
                    apart.submit(map_of, self.folder).result()
            places = index.map()
            self._add({MAP_X: places[:, 0], MAP_Y: places[:, 1]})
        except (HubbleforkError, BrokenExecutor) as error:
            self.fault = str(error)
            self.state = self.state if self.index else "absent"

    def _add(self, columns: dict[str, NDArray]) -> None:
        self._tables |= {name: self.store.put(values) for name, values in columns.items()}
        self.store.quantities = replace(self.store.quantities, others=tuple(self._tables))

    def _ids(self) -> pa.ChunkedArray:
        return pa.chunked_array(self.store.ids(), pa.string())

    @contextmanager
    def _progress(self, what: str, total: int | None, done: int = 0) -> Iterator[Advance]:
        self.doing = {"what": what, "total": total, "done": done}

        def advance(steps: int) -> None:
            self.doing["done"] += steps

        yield advance

    @property
    def seen(self) -> FeatureIndex:
        """The features. Raises NotSeen as long as they are not there."""
        if self.index is None:
            raise NotSeen(
                "similar galaxies are known once the network has looked at all images"
                f"{': ' * bool(self.fault)}{self.fault}"
            )
        return self.index

    def row(self, galaxy_id: str) -> int:
        """Return the row of a galaxy. Raises CatalogueError."""
        found = self.store.rows_of([galaxy_id])
        if not len(found):
            raise CatalogueError(f'the catalogue has no galaxy "{galaxy_id}"')
        return int(found[0])

    def near(self, vector: NDArray, count: int, *, but: int = -1) -> list[dict[str, Any]]:
        """Return the galaxies nearest to features (64,), with their likeness, the nearest first."""
        rows, distances = self.seen.nearest_to(vector, count, but=but)
        likeness = dict(zip(rows.tolist(), (1 - distances).tolist(), strict=True))
        return [{**galaxy, "likeness": likeness[galaxy["row"]]} for galaxy in self.store.at(rows.tolist())]

    def near_image(self, image: bytes, count: int) -> list[dict[str, Any]]:
        """Return the galaxies nearest to one encoded image. Raises ImageError."""
        return self.near(features_of(self.predictor, self.seen.projection, image), count)

    # Quantities

    def _table(self, name: str) -> int | None:
        """Return the number of the table of a quantity, which is made where it depends on a galaxy or tag."""
        if name in self._tables:
            return self._tables[name]
        if name in (UNFAMILIARITY, MAP_X, MAP_Y):
            _ = self.seen  # says what has to come first
        if name.startswith(LIKE):
            galaxy_id = name.removeprefix(LIKE)
            return self._made((name,), lambda: self.seen.cosines(self.seen.vector(self.row(galaxy_id))))
        if name.startswith(TAG):
            tag = name.removeprefix(TAG)
            wanted, others = (tuple(self.marks().galaxies(tag=text)) for text in (tag, NOT + tag))
            return self._made((name, wanted, others), lambda: self._by_example(tag, wanted, others))
        return None

    def _by_example(self, tag: str, wanted: Sequence[str], others: Sequence[str]) -> NDArray[np.float32]:
        if not wanted:
            raise CatalogueError(f'no galaxy has the tag "{tag}": give it to some, five or more')
        return self.seen.ranked(self.store.rows_of(wanted), self.store.rows_of(others))

    def _made(self, key: Any, work: Callable[[], NDArray]) -> int:
        """Return the table of values that were made before, or make it; the oldest of many are dropped."""
        with self._lock:
            if key in self._asked:
                self._asked.move_to_end(key)
                return self._asked[key]
        number = self.store.put(work())
        with self._lock:
            self._asked[key] = number
            dropped = [self._asked.popitem(last=False)[1]] if len(self._asked) > KEPT else []
        for old in dropped:
            self.store.drop(old)
        return number
