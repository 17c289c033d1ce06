"""What the middlewares of all frameworks share: the gate, its settings, the limits of views, denials."""
