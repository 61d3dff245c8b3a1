"""The tables of a plan, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from t2i.simulate.costs import BatchCosts, ServiceCosts
from t2i.simulate.fleets import Work, capacity, fleet_of
from t2i.simulate.gpus import AT_THE_BOUND, GPU, ModelWork, Reached, fits, most_slots, prior_costs, stage_costs
from t2i.simulate.measured import MeasuredService
from t2i.simulate.outcomes import Outcome, Seen
from t2i.simulate.service import TOGETHER
from t2i.simulate.simulation import Run
from t2i.simulate.studies import ZONE_LOST_S, Planned

HOUR_S = 3600


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def measured_costs(measured: MeasuredService) -> str:
    """Return what the parts of the service cost on the machine where it was measured."""
    costs, gateway = measured.costs, measured.costs.gateway
    prior = costs.prior
    rows = [
        ("prior", f"a step of {prior.slots} slots, {prior.image_tokens} to an image", _ms(prior.step_s)),
        ("", "more for each slot in use; for each caption", _ms(prior.slot_s, prior.caption_s)),
        ("", "to read a caption", _ms(prior.prefill_s)),
        ("", "to tell a request its progress", _ms(prior.progress_s)),
        ("", "image tokens of a candidate that is alone, by a step", f"{prior.tokens_of_step(1):.2f} tokens"),
        ("decoder", f"a batch of up to {costs.decoder.size}; each image of it", _batch(costs.decoder)),
        ("reranker", f"a batch of up to {costs.reranker.size}; each image of it", _batch(costs.reranker)),
        ("gateway", "a request; each progress; each file", _ms(gateway.request_s, gateway.progress_s, gateway.image_s)),
        ("", "the way to a replica and back", _ms(gateway.hop_s)),
        ("any", "to start a replica", f"{costs.start_s:.0f} s"),
    ]
    return table(("part", "what", "ms"), rows)


def checks(measured: MeasuredService) -> str:
    """Return the service beside the model."""
    rows = []
    for check in measured.checks:
        cells = [
            f"{service:.3g}, {model:.3g}: {100 * difference:+.0f} %"
            for service, model, difference in zip(check.service, check.model, check.differences, strict=True)
        ]
        rows.append((check.load, str(check.requests), *cells))
    return table(("load", "requests", "answers a second", "50 % of the answers, s", "95 %, s"), rows)


def kinds(gpus: Sequence[GPU]) -> str:
    """Return what is assumed of the kinds of GPUs."""
    rows = []
    for gpu in gpus:
        numbers = gpu.memory_gb, gpu.bandwidth_tb_s, gpu.tflop_s, gpu.hour
        rows.append((gpu.name, *(f"{number:g}" for number in numbers)))
    return table(("GPU", "GB", "TB/s", "TFLOP/s", "USD an hour"), rows)


def stages(cases: Sequence[tuple[str, ModelWork, GPU]], reached: Reached, candidates: int) -> str:
    """Return what each stage makes on a GPU, the ratio of GPUs, and prices; a row for each model and GPU."""
    rows = [(name, gpu.name, *_stage_cells(work, gpu, reached, candidates)) for name, work, gpu in cases]
    head = "model", "GPU", "slots", "s an image", "images/s: prior", "decoder", "reranker", "GPUs, of 100"
    prices = "USD for 1 000 images", "at the bound", "with the slots that fit"
    return table((*head, *prices), rows)


def _stage_cells(work: ModelWork, gpu: GPU, reached: Reached, candidates: int) -> list[str]:
    if not fits(work.prior, gpu):
        return ["does not fit", *[""] * 8]
    costs = stage_costs(work, gpu, reached, candidates)
    seconds = Work.of(costs, candidates, keep=0)
    shares = [100 * each / seconds.device_s for each in (seconds.prior, seconds.decoder, seconds.reranker)]
    slots = most_slots(work.prior, gpu)
    pinned = prior_costs(work.prior, gpu, reached, candidates, slots)
    return [
        str(costs.prior.slots),
        f"{costs.prior.image_s(candidates):.1f}",
        f"{costs.prior.images_per_second(candidates):.3g}",
        f"{costs.decoder.images_per_second():.0f}",
        f"{costs.reranker.images_per_second():.0f}",
        " : ".join(f"{share:.3g}" for share in shares),
        f"{price(costs, gpu, candidates):.3f}",
        f"{price(stage_costs(work, gpu, AT_THE_BOUND, candidates), gpu, candidates):.3f}",
        f"{slots}: {price(replace(costs, prior=pinned), gpu, candidates):.3f}",
    ]


def price(costs: ServiceCosts, gpu: GPU, candidates: int) -> float:
    """Return what 1 000 sampled, decoded and ranked images cost on GPUs that are always busy."""
    return 1000 / candidates * Work.of(costs, candidates, keep=0).device_s * gpu.hour / HOUR_S


def fleets(runs: Mapping[tuple[int, float], Run], planned: Planned) -> str:
    """Return fleets by their size: how they are shared out, what they answer, and how fast under each load."""
    sizes = list(dict.fromkeys(gpus for gpus, _ in runs))
    loads = list(dict.fromkeys(load for _, load in runs))
    head = ["GPUs", "shared out", "gateways", "images/s at most", "of it at the highest load"]
    head += [f"50, 95 % of the answers at {load:.0%}, s" for load in loads]
    return table(head, [_fleet_cells(gpus, {load: runs[gpus, load] for load in loads}, planned) for gpus in sizes])


def _fleet_cells(gpus: int, runs: Mapping[float, Run], planned: Planned) -> list[str]:
    fleet, images = fleet_of(gpus, planned.work), planned.request.candidates
    most = capacity(fleet, planned.work)
    words = "all stages on each" if fleet.placement == TOGETHER else f"{fleet.priors} : {fleet.decoders}"
    return [
        f"{gpus}",
        words,
        f"{fleet.gateways}",
        f"{images * most:.0f}",
        f"{runs[max(runs)].answers_per_second / most:.0%}",
        *(f"{run.counted.seconds_of(50):.1f}, {run.counted.seconds_of(95):.1f}" for run in runs.values()),
    ]


def lost_zone(runs: Mapping[float, Run]) -> str:
    """Return what clients see of a lost zone, by load: before it, and from then to the end."""
    rows = []
    for load, run in runs.items():
        before = run.all.arrived(run.load.uncounted, ZONE_LOST_S)
        after = run.all.arrived(ZONE_LOST_S, run.load.seconds)
        level = before.seconds_of(95)
        rows.append(
            (
                f"{load:.0%}",
                f"{level:.1f}",
                f"{after.seconds_of(50):.1f}, {after.seconds_of(95):.1f}, {after.seconds_of(100):.1f}",
                _lost(after),
                f"{level_again(run, level) - ZONE_LOST_S:.0f}",
            )
        )
    head = ("load", "95 % before, s", "50, 95, 100 % after, s", "without an answer", "level again after, s")
    return table(head, rows)


def level_again(run: Run, level: float) -> float:
    """Return the moment from which on 95 % of the answers in every ten seconds take less than 1.2 times ``level``."""
    bins = [10.0 * number for number in range(int(run.load.seconds / 10))]
    slow = [begin + 10 for begin in bins if run.all.arrived(begin, begin + 10).seconds_of(95) > 1.2 * level]
    return max([ZONE_LOST_S, *slow])


def scaling(runs: Mapping[tuple[str, bool], Run]) -> str:
    """Return a day and a burst with all priors all the time, and with as many as the policy wants."""
    rows = []
    for (name, is_scaled), run in runs.items():
        seen = run.counted
        times = f"{seen.seconds_of(50):.1f}, {seen.seconds_of(95):.1f}, {seen.seconds_of(99):.1f}"
        priors = "as many as wanted" if is_scaled else "all"
        rows.append((name, priors, f"{prior_hours(run):.1f}", times, _lost(seen)))
    head = ("load", "priors", "GPU hours of priors", "50, 95, 99 % of the answers, s", "without an answer")
    return table(head, rows)


def prior_hours(run: Run) -> float:
    """Return for how many hours priors were held, all together, until the end of the load."""
    ends = [begin for begin, _ in run.priors[1:] if begin < run.load.seconds] + [run.load.seconds]
    return sum((end - begin) * priors for (begin, priors), end in zip(run.priors, ends, strict=False)) / HOUR_S


def _lost(seen: Seen) -> str:
    """Return in words which part of the requests had no answer."""
    shares = {outcome.value: seen.share(outcome) for outcome in Outcome if outcome is not Outcome.ANSWERED}
    return ", ".join(f"{share:.1%} {name}" for name, share in shares.items() if share) or "none"


def _ms(*seconds: float) -> str:
    return "; ".join(f"{1000 * each:.3g}" for each in seconds)


def _batch(costs: BatchCosts) -> str:
    return _ms(costs.batch_s, costs.image_s)
