"""Plant each known bug in a copy of the code and see that its test fails there: a test that cannot fail proves nothing.

    python tests/plant_bugs.py            # or: make planted

Each line names a file, what stands there, the bug that replaces it, and the test that must notice.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLOW, PIPELINE, LOSSES = "tests/test_flow.py", "tests/test_pipeline.py", "tests/losses"
STAGES = "tests/test_stages.py"

BUGS = [
    ("the student does not see the mixed batch", "training/trainer.py", "batch = change(batch, epoch, step)",
     "change(batch, epoch, step)", FLOW, "see_the_mixed_batch"),
    ("mixup blends targets by another weight", "data/mixup.py", "target=torch.lerp(batch.target[partner], batch.target, weight)",
     "target=torch.lerp(batch.target[partner], batch.target, 1 - weight)", FLOW, "by_one_weight"),
    ("weights of terms are ignored", "losses/objective.py", ", self.weights[name], rows) for", ", 1.0, rows) for", FLOW, "weight_times_mean"),
    ("a batch is summed, not averaged", "losses/objective.py", "loss.mean() if", "loss.sum() if", FLOW, "weight_times_mean"),
    ("only the first teacher is heard", "training/trainer.py", "for teacher in teachers]", "for teacher in teachers[:1]]", FLOW, "every_teacher"),
    ("a loss's own parameters are not trained", "training/fit.py",
     "[*student, *(p for p in part.objective.parameters() if p.requires_grad)]", "[*student]", FLOW, "every_parameter_of_its_objective"),
    ("a teacher keeps its dropout", "teachers/frozen.py", "self._model = model.eval().requires_grad_(False)",
     "self._model = model.requires_grad_(False)", FLOW, "bit_equal"),
    ("a teacher that is put in train mode is not noticed", "teachers/frozen.py", "    if mode:", "    if False:", FLOW, "bit_equal"),
    ("a member's weight is ignored", "models/ensemble.py", "return (weights * logits).sum(dim=0)", "return logits.mean(dim=0)",
     "tests/test_ensembles.py", "reaches_the_average"),
    ("members share one seed", "config/settings/run.py", '"seed": teacher["seed"] + number', '"seed": teacher["seed"]',
     "tests/test_ensembles.py", "members_are_shared"),
    ("columns are taken by place", "data/csv_columns.py", "positions[name] for name in spec.features", "i for i in positions.values()",
     "tests/data/test_csv_table.py", "by_name"),
    ("line breaks in quoted cells end records", "data/csv_reader.py", "while end and quotes % 2:", "while False:",
     "tests/data/test_csv_reader.py", "any_text or quoted_header"),
    ("unlabeled rows have a class", "tasks/classification/targets.py", " * (known >= 0).unsqueeze(-1)", "", "tests/data/test_unlabelled.py", "not_the_cross_entropy"),
    ("stored outputs forget whose rows they are", "teachers/supply.py", ", lesson.pool.extra_fingerprint.encode())", ")", "tests/data/test_unlabelled.py",
     "the_control_does_not"),
    ("every link has the same teacher", "teachers/generations.py", "teacher = replace(load_from_run(", "_ = replace(load_from_run(",
     "tests/test_generations.py", "teaches_the_next"),
    ("a link is found whatever its teacher", "teachers/generations.py", '"teacher": teacher.fingerprint(),', "", "tests/test_generations.py", "found_by_its_teacher"),
    ("a student forgets its teacher's rows", "pipeline/students.py", "record = merge_records([record, teacher.train_record])", "pass",
     "tests/test_generations.py", "rows_of_the_chains_teacher"),
    ("the cache forgets the order of rows", "data/loader.py", "position=here,", "position=here.sort().values,", FLOW, "looked_up_by_row"),
    ("the last epoch is kept, not the best", "training/trainer.py", "self.model.load_state_dict(selection.best_state_dict)", "pass", FLOW, "best_epoch_by_validation"),
    ("the best NLL is the highest", "training/model_selection.py", "sign = 1 if self.higher_is_better else -1", "sign = 1", FLOW, "nll_is_better"),
    ("weights are saved before the best are loaded", "training/model_selection.py", "tensor.detach().clone() for", "tensor.detach() for", FLOW, "best_epoch_by_validation"),
    ("the order does not depend on the epoch", "data/loader.py", 'torch_generator(self.seed, "order", pass_index)', 'torch_generator(self.seed, "order", 0)',
     FLOW, "equal_batches"),
    ("dropout draws from the global stream", "training/trainer.py", 'seeded(self.seed, "dropout", epoch), ', "",
     FLOW, "stream_of_its_own"),
    ("the control starts from other weights", "pipeline/students.py", 'model = build_model(spec, "student.model", plan.seed)',
     'model = build_model(spec, "student.model", plan.seed + plan.is_control)', PIPELINE, "same_weights_and_differ"),
    ("the control keeps the teacher", "losses/objective.py", "if not term.uses_teacher and (", "if (", FLOW, "loses_the_teachers_terms"),
    ("a control has fewer steps", "pipeline/students.py", "if plan.is_control and plan.match_steps:", "if False:", PIPELINE, "steps_stay_equal"),
    ("unlabeled rows teach by their label", "tasks/classification/targets.py", "-labeled.to(logits.dtype).unsqueeze(-1)", "-1", LOSSES, "without_a_label"),
    ("unlabeled rows teach by their label, weighted", "tasks/classification/targets.py", '"none") * labeled', '"none")', LOSSES, "without_a_label"),
    ("no T^2", "losses/soft_target.py", "(self.alpha * temperature**2)", "self.alpha", LOSSES, "passes_every_check"),
    ("KL is averaged over classes", "losses/soft_target.py", "log_target=True).sum(dim=-1)", "log_target=True).mean(dim=-1)", LOSSES, "passes_every_check"),
    ("the absolute error is summed over classes", "losses/kl_mae.py", ".abs().mean(dim=-1)", ".abs().sum(dim=-1)", LOSSES, "passes_every_check"),
    ("decoupled terms lack T^2", "losses/dkd.py", "self.beta * nckd) * self.temperature**2", "self.beta * nckd)", LOSSES, "passes_every_check"),
    ("decoupling reads hidden labels", "losses/dkd.py", "torch.where(batch.labeled > 0, batch.target.argmax(dim=-1), v.argmax(dim=-1))",
     "batch.target.argmax(dim=-1)", LOSSES, "passes_every_check"),
    ("columns are correlated as rows", "losses/dist.py", "for d in (1, 0)", "for d in (1, 1)", LOSSES, "passes_every_check"),
    ("a constant row divides by zero", "features/numerics.py", "norm.masked_fill(constant, 1.0)", "norm", LOSSES, "passes_every_check"),
    ("paper and code are exchanged", "losses/logit_standardisation.py", 'self.variant == "code"', 'self.variant == "paper"', LOSSES, "passes_every_check"),
    ("half of each divergence is forgotten", "losses/jensen_shannon.py", "(self.temperature**2 / 2)", "(self.temperature**2)", LOSSES, "passes_every_check"),
    ("the virtual teacher shares with the right class", "losses/label_smoothing.py", "/ (target.shape[-1] - 1)", "/ target.shape[-1]", LOSSES, "passes_every_check"),
    ("a control of label smoothing gets a second cross-entropy", "losses/objective.py", "for own, term in terms.items() if term.is_supervised)", "for name, term in terms.items() if isinstance(term, CrossEntropy))",
     LOSSES, "its_own_control"),
    ("a power of small features is nothing", "losses/attention.py", "(x.abs() / largest(x)).pow(", "x.abs().pow(", LOSSES, "do_not_see_the_scale"),
    ("a batch of one relates to nobody", "training/bind_losses.py", "if batch_size < term.min_batch_size:", "if False:", LOSSES, "wrong_setting or one_position"),
    ("verify compares a loss with itself", "verify/numerical.py", "difference(a, b) > TOLERANCE", "difference(a, a) > TOLERANCE", LOSSES, "fault_is_noticed"),
    ("test rows reach the teacher", "teachers/resolve.py", "if member.train_record is not None and (met := find_overlap(member.train_record, dataset)):",
     "if False:", PIPELINE, "saw_the_students_test_rows"),
    ("a teacher of another config is found", "config/settings/teacher.py", "            **self.training.to_config(),\n", "", PIPELINE, "another_config_trains"),
    ("scores are those of validation", "pipeline/evaluation.py", "evaluator(by_split[split], pool, dataset)", "evaluator(by_split['val'][: len(pool)], pool, dataset)",
     PIPELINE, "last_digit or predictions_are_those"),
    ("an epoch of an early stage is kept", "training/trainer.py", "is_best=is_last and selection.update(", "is_best=selection.update(",
     STAGES, "one_of_the_last_stage"),
    ("patience ends an early stage", "training/trainer.py", "if is_last and selection.should_stop(epoch):",
     "if selection.should_stop(epoch):", STAGES, "patience_counts"),
    ("a weight does not move", "training/trainer.py", "if has_schedules:", "if False:", STAGES, "that_of_its_step"),
    ("measuring moves batch norm", "training/gradient_stats.py", "buffer.copy_(value)", "pass", STAGES, "measuring_changes_nothing"),
    ("a control's cross-entropy starts at weight 0", "losses/objective.py", "if len(moving) == 1 and", "if False and", STAGES, "stands_still"),
    ("balance looks at a loss that still trains itself", "training/trainer.py", "skip_pretraining=True", "skip_pretraining=False",
     "tests/losses/test_runs.py", "balanced_by_what"),
    ("the normaliser of the first batch has a gradient", "losses/crd.py", "math.log(len(self.student))).detach()", "math.log(len(self.student)))",
     "tests/losses/test_feature_losses.py", "normaliser_of_the_code"),
    ("a control learns through a head that stands still", "factory/stages.py", "objective.without_teacher(task.supervised_loss, partial(supervised_loss, task)), None",
     "objective.without_teacher(task.supervised_loss, partial(supervised_loss, task)), train", STAGES, "equal_budgets"),
    ("F1 is half of what it is", "metrics/confusion.py", "np.divide(2.0 * hits", "np.divide(hits", "tests/test_metrics.py", "equal_sklearn"),
    ("a control keeps a small cross-entropy small", "losses/objective.py", "elif label_weight < 1:",
     "elif False:", STAGES, "stands_still"),
    ("the tuned control has the losses of the student's trial", "factory/tuned_settings.py", "{key: self.control.config[key] for",
     "{key: self.student.config[key] for", "tests/test_trials.py", "losses_of_its_own_trial"),
    ("trials that differ in the teacher's part count for a control", "factory/tuned_settings.py", "objective.without_teacher() if objective.uses_teacher else objective",
     "objective", "tests/test_trials.py", "distinct_for_a_control"),
    ("small probabilities are squared as they are", "features/numerics.py", "-torch.frexp(largest.clamp(min=SMALLEST)).exponent",
     "0 * torch.frexp(largest).exponent", LOSSES, "no_row_believes"),
    ("a detectable difference forgets the correction", "reports/sweep/leaderboard.py", 'c.result["sd"], corrected)',
     'c.result["sd"])', "tests/reports", "passes_the_correction"),
    ("a teacher that changed under its name is the same", "reports/sweep/settings.py", "return same_rows and (",
     "return same_rows or (", "tests/reports", "under_one_name"),
    ("a killed writer's file stays", "utils/files.py", "    remove_stale_temporaries(path)\n    return",
     "    return", "tests/test_resume.py", "killed_writer_left"),
]  # fmt: skip


def fails(folder: Path, test: str, words: str) -> bool:
    """Run one test in the copy; return whether it failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test, "-k", words]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"cannot run {test} -k '{words}':\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


def left_out(folder: str, names: list[str]) -> set[str]:
    """Return what a copy of the project can do without: at its top `data` and `outputs`, not `tests/data`."""
    unwanted = {"__pycache__"} | ({".git", ".venv", "outputs", "data"} if Path(folder) == ROOT else set())
    return unwanted & set(names)


def main() -> int:
    """Plant all bugs, one at a time; return 1 if a test missed one."""
    missed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "copy"
        shutil.copytree(ROOT, folder, ignore=left_out)
        for what, name, old, new, test, words in BUGS:
            path = folder / "distill_cli" / name
            text = path.read_text()
            if text.count(old) != 1:
                sys.exit(f"{name}: '{old}' stands there {text.count(old)} times; mend the list in {Path(__file__).name}")
            path.write_text(text.replace(old, new))
            caught = fails(folder, test, words)
            path.write_text(text)
            missed += not caught
            print(f"{'caught' if caught else 'MISSED'}  {what}  ({test} -k '{words}')", flush=True)
    print(f"{len(BUGS) - missed} of {len(BUGS)} planted bugs caught")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
