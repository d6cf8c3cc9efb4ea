"""The report's sections 5.1 to 5.4: the mean vote, and the three networks layer by layer."""

from __future__ import annotations

import numpy as np

from hubblefork.data.split import TRAIN, VALIDATION
from hubblefork.network.model import Layer, VoteFractions, count_parameters, summarise
from hubblefork.network.recipe import Recipe, load_recipe
from hubblefork.report.blocks import (
    Block,
    Facts,
    Listing,
    Missing,
    Paragraph,
    Section,
    Table,
    counted,
    decimal,
    listed,
)
from hubblefork.stats.baselines import mean_vote
from hubblefork.stats.metrics import rmse
from hubblefork.studies.lab import paper
from hubblefork.studies.lab.inputs import Lab, Network
from hubblefork.zoo import DecisionTree

RMSE = (
    "L_RMSE = √⟨(ℓ_true − ℓ_pred)²⟩\n       = √( Σ_i Σ_j (ℓ_true,ij − ℓ_pred,ij)² / (N_galaxies N_labels) )"
)
KERAS = {  # what Keras calls the layers that PyTorch and timm call so
    "Conv2d": "Conv2D",
    "BatchNorm2d": "BatchNormalization",
    "ReLU": "Activation (relu)",
    "MaxPool2d": "MaxPooling2D",
    "Linear": "Dense",
    "SigmoidHead": "Activation (sigmoid)",
    "LabHead": "Activation (sigmoid, re-weight)",
}
RESNETS = (
    "ResNet-50 is timm's. It is not Keras's to the last detail: the stride of a block is in its 3 × 3 "
    "convolution and not in the first 1 × 1 one; convolutions that a normalisation follows have no bias, "
    "which the normalisation would take out again (Keras has 26,560 such); running statistics move by a "
    "tenth a step, not a hundredth; the last normalisation of a block starts at zero. Parameters are "
    "counted as Keras counts."
)


def mean_votes(lab: Lab) -> Section:
    """Return section 5.1: the mean label as a prediction."""
    train = lab.votes(TRAIN)
    errors = {
        part: rmse(mean_vote(train, len(votes)), votes)
        for part in dict.fromkeys((TRAIN, VALIDATION, lab.judged_on))
        if len(votes := lab.votes(part))
    }
    rows = [
        [part, decimal(value), decimal(value**2), "–" if part == "test" else f"{paper.MEAN_VOTE_RMSE}"]
        for part, value in errors.items()
    ]
    near = listed([f"{value:.2f} on {part}" for part, value in errors.items()])
    caption = (
        "RMSE and MSE of the mean label of the "
        f"{counted(len(train), 'training galaxy', 'training galaxies')}, the same for every galaxy: {near}, "
        f"against the report's {paper.MEAN_VOTE_RMSE} on both. A network must do better, or it has learned "
        "nothing but the means."
    )
    table = Table("section-5-1", ["galaxies", "RMSE", "MSE", "report's RMSE"], rows, caption, errors)
    text = (
        "The measure of all that follows: the root of the mean squared difference over all galaxies and "
        "labels. A label that nobody gave is left out of both sums. Keras's loss, which the report quotes, "
        "is its square."
    )
    return Section("section-5-1", "5.1 · The mean vote", [Listing(RMSE), Paragraph(text), table])


def custom(lab: Lab) -> Section:
    """Return section 5.2 and table 2."""
    return Section("section-5-2", "5.2 · The custom CNN: table 2", _network(lab, "lab-cnn"))


def resnet(lab: Lab) -> Section:
    """Return section 5.3 and table 3."""
    blocks = [Paragraph(RESNETS), *_network(lab, "lab-resnet50")]
    return Section("section-5-3", "5.3 · ResNet-50: table 3", blocks)


def reweighted(lab: Lab) -> Section:
    """Return section 5.4 and tables 4 and 5."""
    text = (
        "Every stamp is rotated by an angle from all 360°, reflected or not, cut out of a larger stamp so "
        "that no corner is black; the network should never see the same picture twice. Its outputs pass the "
        "report's re-weighting: sigmoids, divided by their sum within each question, times the normalised "
        "output of one earlier answer (table 4)."
    )
    blocks = [Paragraph(text), _gates(lab.tree), *_network(lab, "lab-resnet50-reweighted")]
    return Section("section-5-4", "5.4 · ResNet-50 optimised: tables 4 and 5", blocks)


def _network(lab: Lab, name: str) -> list[Block]:
    network = lab.networks[name]
    recipe = load_recipe(name) if isinstance(network, Missing) else network.recipe
    facts: Block = network if isinstance(network, Missing) else Facts(_training_facts(network))
    return [_layers(lab.tree, name, recipe), facts]


def _layers(tree: DecisionTree, name: str, recipe: Recipe) -> Table:
    built = VoteFractions(recipe, tree)
    layers, counts = summarise(built, recipe.input_size), count_parameters(built)
    rows = [
        [_kind(layer), _shape(layer.output_shape), f"{layer.parameters.keras:,}", theirs]
        for layer, theirs in zip(layers, _theirs(name, layers), strict=True)
    ]
    rows.append(["total", "", f"{counts.keras:,}", f"{paper.parameters(name):,}"])
    same = "the same number" if counts.keras == paper.parameters(name) else "not the same number"
    caption = (
        f"Table {paper.TABLE_OF[name]}. {name}, layer by layer: type, output shape as (y, x, band) or "
        f"(feature), parameters in Keras's way of counting. In total {counts.keras:,}, {same} as the "
        f"report's {paper.parameters(name):,}; {counts.statistics:,} of them are running statistics of "
        f"batch normalisation, which Keras calls non-trainable (report: {paper.FIXED[name]:,})"
        + (
            f", and {counts.redundant:,} are biases that only Keras's ResNet has."
            if counts.redundant
            else "."
        )
    )
    numbers = {
        "layers": [
            {"type": layer.kind, "shape": list(layer.output_shape), "parameters": layer.parameters.keras}
            for layer in layers
        ],
        **{"total": counts.keras, "learned": counts.learned, "statistics": counts.statistics},
        "report": paper.parameters(name),
    }
    header = ["layer", "output shape", "parameters", "report"]
    return Table(f"table-0{paper.TABLE_OF[name]}", header, rows, caption, numbers)


def _theirs(name: str, layers: list[Layer]) -> list[str]:
    """Return the report's number of parameters for each of our layers that has any; the others have none."""
    counts = iter([count for _, _, count in paper.LAYERS[name] if count])
    return [f"{next(counts, 0):,}" if layer.parameters.keras else "0" for layer in layers]


def _kind(layer: Layer) -> str:
    return KERAS.get(layer.kind, layer.kind)


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})" if len(shape) > 1 else f"({shape[0]},)"


def _gates(tree: DecisionTree) -> Table:
    rows, found = [], {}
    for question, answers, gate in zip(tree.questions, tree.slices, tree.gates, strict=True):
        task = question.answers[0].column.partition(".")[0]
        source = None if gate is None else tree.answers[gate]
        found[task] = None if source is None else source.column
        texts = ", ".join(answer.text for answer in question.answers)
        indices = f"{answers.start}–{answers.stop - 1}"
        factor = ["1", "–", "–"] if source is None else [source.column, source.text, str(gate)]
        rows.append([f"{task.removeprefix('Class')}: {texts}", indices, *factor])
    same = {task: gate for task, gate in found.items() if gate is not None} == paper.GATES
    verdict = "exactly those of the report" if same else "not all those of the report"
    caption = (
        "Table 4. The answers of a question (indices count from 0) and the answer by whose normalised "
        f"output they are multiplied. The factors follow from the decision tree, and are {verdict}; "
        "questions 1 and 6 are asked of every galaxy, so that their factor is 1."
    )
    header = ["question: answers", "indices", "times", "which is", "index"]
    return Table("table-04", header, rows, caption, found)


def _training_facts(network: Network) -> dict[str, str]:
    notes, recipe, galaxies = network.notes, network.recipe, network.notes.get("galaxies", {})
    device = notes.get("device", {})
    steps = f"{recipe.steps_per_epoch} steps" if recipe.steps_per_epoch else "one pass over the galaxies"
    speed = float(np.median([row["galaxies_per_second"] for row in network.rows]))
    facts = {
        "Trained on": f"{galaxies.get(TRAIN, 0):,} galaxies (the report: {paper.TRAINING:,})",
        "Start": str(notes.get("start", "random weights")),
        "Schedule": (
            f"batches of {recipe.batch_size}, epochs of {steps}, at most {recipe.epochs}; Adam at "
            f"{recipe.learning_rate:g}, times {recipe.plateau_factor:g} after {recipe.plateau_patience} "
            f"epochs without progress; watched is {recipe.monitor.replace('_', ' ')}"
        ),
        "Augmentation": _moves(recipe),
        "Epochs": f"{len(network.rows)}, the weights are those of epoch {network.best_epoch} (from 0)",
        "Time": f"{network.seconds:,.1f} s an epoch, {speed:,.0f} galaxies a second",
        "Device": f"{device.get('kind', '–')}, {device.get('precision', '–')}, "
        f"{counted(device.get('threads', 0), 'thread')}",
    }
    return facts if notes.get("finished") else {"Mind": "this training has not finished", **facts}


def _moves(recipe: Recipe) -> str:
    texts = [
        f"rotation by up to ±{recipe.rotation:g}°" if recipe.rotation else "",
        f"reflection of a share of {recipe.flip:g}" if recipe.flip else "",
        f"shifts by up to {recipe.shift:g} pixels" if recipe.shift else "",
        f"zoom by a factor of up to {recipe.zoom:g} either way" if recipe.zoom != 1 else "",
    ]
    return listed([text for text in texts if text]) if any(texts) else "none"
