package pdp

// Held returns how many policies are kept ready.
func (r *Releases) Held() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.held)
}
