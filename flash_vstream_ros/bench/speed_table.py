"""The figures of `bench speed` as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MB, GB = 1e6, 1e9


def lines(result: Mapping[str, Any]) -> list[str]:
    """Printed lines of a run."""
    return [
        *_machine(result),
        "",
        *_ingest(result),
        "",
        *_questions(result),
        "",
        *_updates(result),
        "",
        *_stored(result),
        "",
        *(f"  {name:>30} {ratio:.4g}" for name, ratio in result["ratios"].items()),
        "",
        *_criteria(result["criteria"]),
    ]


def _machine(result: Mapping[str, Any]) -> Iterable[str]:
    machine = result["machine"]
    yield f"{result['shape']} on {result['device']}, {result['dtype']}, {result['threads']} threads"
    yield (
        f"measured: copies of {machine['copy_bytes_per_s'] / GB:.1f} GB/s, matrix products of"
        f" {machine['matmul_flops_per_s'] / 1e12:.3f} TFLOP/s; floors follow from these"
    )


def _ingest(result: Mapping[str, Any]) -> Iterable[str]:
    ingest, floor, decode = result["ingest"], result["floors"], result["decode"]
    power = f", {ingest['power_w']:.0f} W" if "power_w" in ingest else ""
    yield (
        f"ingest: {ingest['frames_per_s']:.1f} frames/s (floor {2 / floor['slot_s']:.1f}); a slot"
        f" {_ms(ingest['slot_s'])}: encoded in {_ms(ingest['encode_p50_s'])}, memory updated in"
        f" {_ms(ingest['update_p50_s'])}{power}"
    )
    yield f"decoding: {decode['tokens_per_s']:.1f} tokens/s (floor {1 / decode['floor_s']:.1f})"
    full = result["lengths"]["10 h"]
    yield (
        f"weights {result['weight_bytes'] / MB:.1f} MB, memory {full['memory_bytes'] / MB:.1f} MB, cached"
        f" {full['prefix_cache_bytes'] / MB:.1f} MB; peak, with {len(result['lengths'])} such memories cached,"
        f" {result['peak_bytes'] / GB:.2f} GB"
    )


def _questions(result: Mapping[str, Any]) -> Iterable[str]:
    yield "time to the first token, p50 [ms]"
    yield f"{'stream':>8} {'tokens':>7} {'uncached':>9} {'p95':>8} {'floor':>8} {'cached':>9} {'p95':>8} {'floor':>8}"
    for length, figures in result["lengths"].items():
        cells = [f"{length:>8} {figures['memory_tokens']:>7}"]
        for kind in ("uncached", "cached"):
            times = figures[kind]["first_token_p50_s"], figures[kind]["first_token_p95_s"]
            floor = result["floors"][f"{kind}_first_token_s"][length]
            cells.append(f"{1e3 * times[0]:9.2f} {1e3 * times[1]:8.2f} {1e3 * floor:8.3f}")
        yield " ".join(cells)
    looked = result["second_look"]
    uncached, twice = (looked[f"{kind}_first_token_p50_s"] for kind in ("uncached", "second_look"))
    yield (
        f"with a second look of {looked['second_look_tokens']} tokens after {looked['memory_tokens']} cached ones:"
        f" {1e3 * twice:.2f}; uncached, without a second look: {1e3 * uncached:.2f}"
    )
    question = result["released_question"]
    yield (
        f"the released procedure, after 1 h: {1e3 * question['p50_s']:.2f}, p95 {1e3 * question['p95_s']:.2f}:"
        " the whole prompt, every time"
    )


def _updates(result: Mapping[str, Any]) -> Iterable[str]:
    yield f"update of the memory after {result['released_slots']} slots, in turn with the released procedure's"
    for name, update in result["update"].items():
        parts = ", ".join(f"{part} {_ms(seconds)}" for part, seconds in update["parts"].items() if part != "whole")
        floor = f" (floor {_ms(result['floors']['update_s'])})" if name == "ours" else ""
        yield f"{name:>10} {_ms(update['p50_s'])}, p95 {_ms(update['p95_s'])}{floor}; of it {parts}"
    transfers = result["update_transfer_bytes"]
    yield (
        f"between host and device for each update: {transfers['ours'] / 1e3:.2f} kB ours,"
        f" {transfers['released'] / MB:.1f} MB released; its two frames {result['frame_bytes'] / MB:.2f} MB"
    )


def _stored(result: Mapping[str, Any]) -> Iterable[str]:
    yield "stored of the stream [MB]"
    for length, released in result["released_bytes"].items():
        ours = result["lengths"][length]["memory_bytes"]
        yield f"{length:>8} {ours / MB:10.1f} ours {released / MB:10.1f} released"


def _criteria(criteria: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for each in criteria:
        sign, verdict = "<=" if each["at_most"] else ">=", "met" if each["met"] else "NOT MET"
        yield f"{verdict:>8}  {each['figure']} {each['value']:.4g} {sign} {each['bound']:.4g}: {each['description']}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"
