"""The telemetry app with much patience for the log: `python -m tests.support.patient_telemetry telemetry`."""

from api.__main__ import main
from api.telemetry import app

LOG_WAIT_S = 60.0

if __name__ == "__main__":
    app.LOG_WAIT_S = LOG_WAIT_S
    main()
