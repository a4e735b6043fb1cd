"""What others do with the same budget: confident learning (cleanlab) and confidence-driven inference (CDI)."""

import numpy as np


def cleanlab_order(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """
    Rows from the most to the least suspect, by cleanlab's own ranking of what it takes for issues; the rest by its
    score. `probs` `[N, K]` are those of a classifier that was trained on the labels of other rows, each of 0 to K - 1.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    issues = find_label_issues(labels, probs, return_indices_ranked_by="self_confidence", n_jobs=1)
    others = np.argsort(get_label_quality_scores(labels, probs), kind="stable")
    return np.concatenate([issues, others[~np.isin(others, issues)]])


def out_of_fold(features: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """`[N, K]`: the probability of each of the K labels that occur, for rows that the classifier has not seen."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    model = LogisticRegression(max_iter=1000)
    return cross_val_predict(model, features, labels, cv=folds, method="predict_proba")


CDI = {"eta": 0.001, "max_depth": 3, "objective": "reg:squarederror", "nthread": 1}
CDI_ROUNDS, CDI_BURN_IN, CDI_REFIT, CDI_MIX = 2000, 50, 100, 0.1
"""As its authors' code has them."""


def cdi_selection(
    confidence: np.ndarray, wrong: np.ndarray, budget: int, seed: int, *, refit: int = CDI_REFIT
) -> np.ndarray:
    """
    The rows that confidence-driven inference asks people about: a pass over the rows in random order, each drawn with
    π = clip((1 − m)·b·u/mean(u) + m·b, 0, 1), u the root of the squared error that XGBoost predicts from the
    confidence, fitted again after every `refit` labels; it stops at the budget.
    """
    import xgboost

    rng = np.random.default_rng(seed)
    order, share = rng.permutation(confidence.size), budget / confidence.size
    selected = np.zeros(confidence.size, dtype=bool)
    burn_in = min(CDI_BURN_IN, budget)
    selected[order[:burn_in]] = True
    scored, unsure = -refit, np.ones(confidence.size)
    for row in order[burn_in:]:
        count = int(selected.sum())
        if count >= budget:
            break
        if count - scored >= refit:
            known = xgboost.DMatrix(confidence[selected, None], wrong[selected].astype(float))
            model = xgboost.train(CDI, known, CDI_ROUNDS)
            unsure = np.sqrt(np.clip(model.predict(xgboost.DMatrix(confidence[:, None])), 0, None))
            unsure = unsure if unsure.any() else np.ones(confidence.size)  # no error so far: nothing is known
            scored = count
        pi = (1 - CDI_MIX) * share * unsure[row] / unsure.mean() + CDI_MIX * share
        selected[row] = rng.random() < pi
    return selected
