"""Attribution of the target's log-probability and logit to what layers add: by gradients, and by the tail alone."""
