package halves

import "chartgate/internal/sidecar"

// Limits say how much a sidecar decides at the same time.
type Limits struct {
	MaxChecks int `env:"CHARTGATE_MAX_CHECKS" default:"0" placeholder:"N" help:"Single decisions that may be under way; what is more is refused at once with 503. 0: 256 for each CPU. Default: ${default}."`
	MaxBulk   int `env:"CHARTGATE_MAX_BULK" default:"0" placeholder:"N" help:"Decisions of batches, searches and filters that may be under way; they are refused before single ones. 0: 2,000 for each CPU. Default: ${default}."`
}

func (l Limits) of() sidecar.Limits { return sidecar.Limits{Checks: l.MaxChecks, Bulk: l.MaxBulk} }

// Faults lists what is wrong with them.
func (l Limits) Faults() []error {
	if err := l.of().Check(); err != nil {
		return []error{err}
	}
	return nil
}
