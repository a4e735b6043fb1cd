"""A model behind a provider's batch routes: half the price, and up to a day's wait."""

from act_hf.models.batch.model import BatchEndpoint


__all__ = ["BatchEndpoint"]
