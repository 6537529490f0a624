"""The operator: one idempotent reconcile from manifests to Kubernetes objects, and thin kopf handlers around it."""
