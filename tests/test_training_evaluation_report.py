"""The table says what passes."""

from training.evaluation import report


def test_table_says_what_passes() -> None:
    values = {name: least or most for name, (least, most) in report.TARGETS.items()}
    values["reconstruction_db"] = 10.0
    extra = {
        "estimator": {"yaw_sign_accuracy": 1.0, "speed_class_accuracy": 1.0},
        "probe_accuracy": 1.0,
    }
    lines = report.table([{"stage": "stage4", **values, **extra}]).splitlines()
    assert next(line for line in lines if line.startswith("reconstruction_db")).endswith("--")
    assert next(line for line in lines if line.startswith("turn_rate_ratio")).endswith("ok")
    assert report.passes("turn_rate_ratio", 1.25) and not report.passes("turn_rate_ratio", 0.79)
    assert report.passes("response_seconds", 0.0) and not report.passes("response_seconds", 0.16)
