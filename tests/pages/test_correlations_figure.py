import numpy as np
import pytest

from hubblefork.pages.comparisons import correlation_matrix, correlation_submatrices
from hubblefork.stats.samples import correlations


@pytest.fixture
def rho(votes):
    found = correlations(votes).rho
    found[3, 5] = np.nan
    return found


def test_the_matrix_is_drawn_with_a_dash_on_every_negative_element(tree, rho):
    figure, numbers = correlation_matrix(tree, rho)
    panel = figure.axes[0]
    assert np.ma.filled(panel.images[0].get_array(), np.nan) == pytest.approx(rho, nan_ok=True)
    dashes = {tuple(map(int, place)) for marks in panel.collections for place in marks.get_offsets()}
    assert dashes == {(j, i) for i, j in zip(*np.nonzero(rho < 0), strict=True)}
    assert numbers["rho"][3][5] is None
    assert numbers["answers"] == list(tree.columns)


def test_every_question_has_its_submatrix_on_the_page_and_apart_from_the_others(tree, rho):
    figure, numbers = correlation_submatrices(tree, rho)
    figure.draw_without_rendering()
    panels = figure.axes[: len(tree.questions)]
    for panel, question, answers in zip(panels, tree.questions, tree.slices, strict=True):
        shown = np.ma.filled(panel.images[0].get_array(), np.nan)
        assert shown == pytest.approx(rho[answers, answers], nan_ok=True)
        assert numbers[question.name]["answers"] == [answer.name for answer in question.answers]
        texts = [text.get_text().replace("−", "-") for text in panel.texts]
        assert texts == [
            str(round(100 * value)) for value in rho[answers, answers].ravel() if np.isfinite(value)
        ]
    boxes = [panel.get_tightbbox() for panel in figure.axes]
    page = figure.bbox
    for k, box in enumerate(boxes):
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        assert not any(box.overlaps(other) for other in boxes[:k])
