# SPDX-License-Identifier: BSD-3-Clause
"""The columns of the table: ours, ours without reading, COPY, and what others do."""

import statistics
from functools import partial

from benchmarks.merge_insertion import time_insertion
from benchmarks.merge_peers import FORMATS, Encoded, Peers, encode_rows, time_copy
from benchmarks.merge_place import Place, Variant, seconds_of
from benchmarks.merge_process import MergeTimes, time_merge
from benchmarks.merge_workload import N_DATASETS, N_QUANTA, ONE_IN, RUN, Workload
from benchmarks.postgres_server import count_rows


def compare_with_copy(place: Place) -> None:
    """Merge from a directory, insert alone and COPY, in turns, over one connection and two."""
    first = place.server.fresh_database()
    time_merge(first, place.datastore, RUN)
    rows = count_rows(first)
    place.figures |= {"n_quanta": place.n_quanta, "n_rows": sum(rows.values())}
    for n_connections in (1, 2):
        encoded = {form: encode_rows(first, form, n_connections) for form in FORMATS}
        variants: dict[str, Variant] = {
            f"copy_{form}": partial(_copy, encoded[form], form) for form in FORMATS
        }
        options = ("--connections", str(n_connections))
        variants["merge"] = partial(merge, place.datastore, options)
        variants["insertion"] = partial(_insert, place.datastore, n_connections)
        _compare(place, variants, rows, n_connections)
    place.server.drop(first)


def _compare(
    place: Place, variants: dict[str, Variant], rows: dict[str, int], n_connections: int
) -> None:
    timed, suffix = place.take_turns(variants, rows), f"_{n_connections}c"
    medians = {name: statistics.median(seconds_of(each)) for name, each in timed.items()}
    copies = {form: medians[f"copy_{form}"] for form in FORMATS}
    copy_s = place.copy_s[n_connections] = min(copies.values())
    for form, seconds in copies.items():
        place.figures[f"copy_{form}{suffix}_s"] = round(seconds, 3)
    place.figures[f"insertion{suffix}_s"] = round(medians["insertion"], 3)
    place.figures[f"insertion{suffix}_ratio_of_copy"] = round(copy_s / medians["insertion"], 3)
    place.note_merge(f"merge{suffix}", timed["merge"], copy_s)
    n_datasets = N_DATASETS * place.n_quanta / N_QUANTA
    place.figures[f"merge{suffix}_datasets_per_s"] = round(n_datasets / medians["merge"])


def merge(
    datastore: str, options: tuple[str, ...], address: str, expected: tuple[int, ...] = (0,)
) -> MergeTimes:
    """Merge the RUN of a datastore as a process."""
    return time_merge(address, datastore, RUN, *options, expected=expected)


def _copy(encoded: tuple[Encoded, list[Encoded]], form: str, address: str) -> float:
    return time_copy(address, *encoded, form)


def _insert(datastore: str, n_connections: int, address: str) -> float:
    return time_insertion(address, datastore, RUN, n_connections)


def merge_again(place: Place, repetitions: int = 3) -> None:
    """Merge, and merge again when there is nothing to do."""
    address = place.server.fresh_database()
    first = time_merge(address, place.datastore, RUN)
    times = [time_merge(address, place.datastore, RUN) for _ in range(repetitions)]
    place.server.drop(address)
    again_s = statistics.median(each.merge_s for each in times)
    process_s = statistics.median(each.process_s for each in times)
    place.figures |= {
        "merge_again_s": round(again_s, 3),
        "merge_again_process_s": round(process_s, 3),
        "merge_again_ratio_of_first": round(again_s / first.merge_s, 4),
        "merge_again_process_ratio_of_first": round(process_s / first.process_s, 4),
    }


def price_of_bad(place: Place) -> None:
    """Merge RUNs of which one delta in fifty is damaged, or in conflict, beside a clean one."""
    variants: dict[str, Variant] = {"clean": partial(merge, place.datastore, ())}
    for name, workload, code in (
        ("damaged", Workload(place.n_quanta, are_damaged=True), 11),
        ("conflicts", Workload(place.n_quanta, are_in_conflict=True), 10),
    ):
        uri = place.write(workload, name)
        variants[name] = partial(merge, uri, (), expected=(code,))
    timed = place.take_turns(variants)
    medians = {name: statistics.median(seconds_of(each)) for name, each in timed.items()}
    for name in ("damaged", "conflicts"):
        before = f"merge_{100 // ONE_IN}_percent_{name}"
        place.figures[f"{before}_process_s"] = round(medians[name], 3)
        place.figures[f"{before}_process_ratio_to_clean"] = round(
            medians[name] / medians["clean"], 3
        )


def compare_with_peers(place: Place) -> None:
    """Insert the same rows as others do; row by row only those of some quanta."""
    address = place.server.fresh_database()
    time_merge(address, place.datastore, RUN)
    n_rows, process_s = place.number("n_rows"), place.number("merge_1c_process_s")
    executemany_s = place.measure(Peers(address).time_executemany)
    few = Peers(address, n_quanta=max(50, place.n_quanta // 50))
    place.server.drop(address)
    savepoints_s = place.measure(few.time_savepoints) * n_rows / few.n_rows
    place.figures |= {
        "sqlalchemy_executemany_s": round(executemany_s, 2),
        "savepoints_sampled_rows": few.n_rows,
        "savepoints_all_rows_s": round(savepoints_s, 1),
    }
    for name, seconds in (("executemany", executemany_s), ("savepoints", savepoints_s)):
        place.figures[f"{name}_ratio_of_copy"] = round(place.copy_s[1] / seconds, 3)
        place.figures[f"merge_process_times_faster_than_{name}"] = round(seconds / process_s, 1)
