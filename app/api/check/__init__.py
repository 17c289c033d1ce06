"""`POST /v1/check` and `/v1/check/batch`: one handler behind both doors."""
