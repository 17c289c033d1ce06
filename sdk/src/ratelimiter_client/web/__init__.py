"""The common parts of all frameworks' middlewares: the gate, its settings, the limits of views, denials."""
