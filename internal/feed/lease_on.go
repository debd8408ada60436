//go:build !brokenlease

package feed

// leaseEnds is false in one build only, which exists to show that the soak test
// would find a lease that does not end.
const leaseEnds = true
