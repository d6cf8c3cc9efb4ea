"""What the lab report states, as data: its tables and the numbers of its text.

H. Nguyen, "Lab 3: Galaxy Image Classification and the Galaxy Merger Rate", University of California,
Berkeley. Only numbers and names, each with where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass

CITATION = (
    "H. Nguyen, “Lab 3: Galaxy Image Classification and the Galaxy Merger Rate”, Astronomy 128: Astro Data "
    "Science Lab, University of California, Berkeley"
)
IMAGES, TRAINING, VALIDATION, TEST_IMAGES = 61_578, 49_262, 12_316, 79_975  # sections 3, 3.4, 6.3
KILOBYTES, STAMP_KILOBYTES, GIGABYTES, STAMPS_GIGABYTES = 540, 12, 33, 0.77  # section 4
MEAN_VOTE_RMSE = 0.16  # section 5.1
MERGERS, THRESHOLD = 2110, 0.3  # section 6.3, equation 4
EXAMPLE = 391898  # figure 7
SEVERAL_PEAKS = ("smooth", "features_or_disk", "not_edge_on")  # section 3.1
PROTOTYPES = (  # section 6.2
    "smooth",
    "star_or_artifact",
    "edge_on_disk",
    "ring",
    "lens_or_arc",
    "two_arms",
    "merger",
)

LAYERS = {  # tables 2, 3, 5: layer type, output shape, parameters in Keras's way of counting
    "lab-cnn": (
        ("Conv2D", (62, 62, 32), 896),
        ("BatchNormalization", (62, 62, 32), 128),
        ("Activation (relu)", (62, 62, 32), 0),
        ("MaxPooling2D", (31, 31, 32), 0),
        ("Dropout", (31, 31, 32), 0),
        ("Conv2D", (29, 29, 64), 18_496),
        ("Activation (relu)", (29, 29, 64), 0),
        ("MaxPooling2D", (14, 14, 64), 0),
        ("Dropout", (14, 14, 64), 0),
        ("Conv2D", (9, 9, 128), 295_040),
        ("Activation (relu)", (9, 9, 128), 0),
        ("Dropout", (9, 9, 128), 0),
        ("Flatten", (10_368,), 0),
        ("Dense", (128,), 1_327_232),
        ("Dropout", (128,), 0),
        ("Dense", (64,), 8_256),
        ("Dropout", (64,), 0),
        ("Dense", (37,), 2_405),
        ("Activation (sigmoid)", (37,), 0),
    ),
    "lab-resnet50": (
        ("resnet50", (2, 2, 2048), 23_587_712),
        ("Flatten", (8_192,), 0),
        ("Dense", (37,), 303_141),
        ("Activation (sigmoid)", (37,), 0),
    ),
    "lab-resnet50-reweighted": (
        ("resnet50", (2, 2, 2048), 23_587_712),
        ("Flatten", (8_192,), 0),
        ("Dense", (200,), 1_638_600),
        ("Dropout", (200,), 0),
        ("Dense", (100,), 20_100),
        ("Dropout", (100,), 0),
        ("Dense", (37,), 3_737),
        ("Activation (sigmoid)", (37,), 0),
        ("Activation (re-weight)", (37,), 0),
    ),
}
TABLE_OF = {"lab-cnn": 2, "lab-resnet50": 3, "lab-resnet50-reweighted": 5}
FIXED = {"lab-cnn": 64, "lab-resnet50": 53_120, "lab-resnet50-reweighted": 53_120}  # non-trainable

GATES = {  # table 4: the answer by which those of a question are multiplied
    "Class2": "Class1.2",
    "Class3": "Class2.2",
    "Class4": "Class2.2",
    "Class5": "Class2.2",
    "Class7": "Class1.1",
    "Class8": "Class6.1",
    "Class9": "Class2.1",
    "Class10": "Class4.1",
    "Class11": "Class4.1",
}


@dataclass(frozen=True)
class Averages:
    """A row of table 6: mean squared errors, and Keras's categorical accuracy over the 37 columns."""

    training_loss: float
    validation_loss: float
    training_agreement: float
    validation_agreement: float


TABLE_6 = {
    "lab-cnn": Averages(0.012, 0.012, 0.74, 0.75),
    "lab-resnet50": Averages(0.0067, 0.011, 0.79, 0.73),
    "lab-resnet50-reweighted": Averages(0.0092, 0.013, 0.82, 0.78),
}
ABSTRACT_LOSSES = {"lab-cnn": 0.012, "lab-resnet50": 0.0067, "lab-resnet50-reweighted": 0.0092}
NAMES = {
    "lab-cnn": "custom CNN",
    "lab-resnet50": "ResNet50",
    "lab-resnet50-reweighted": "optimised ResNet50",
}


def parameters(network: str) -> int:
    """Return the total of a network's table."""
    return sum(count for _, _, count in LAYERS[network])
