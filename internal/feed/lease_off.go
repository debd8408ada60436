//go:build brokenlease

package feed

const leaseEnds = false
