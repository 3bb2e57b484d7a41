// SPDX-License-Identifier: Apache-2.0

package anycast

// health damps the results of the health check, so that a node that wavers does
// not make routers recompute each second.
type health struct {
	rise, fall int
	up         bool
	row        int // results in a row that speak against up
}

// take takes in a result and tells whether up has changed.
func (h *health) take(good bool) (changed bool) {
	if good == h.up {
		h.row = 0
		return false
	}
	h.row++
	enough := h.fall
	if good {
		enough = h.rise
	}
	if h.row < enough {
		return false
	}
	h.up, h.row = good, 0
	return true
}

// drop makes it start from below.
func (h *health) drop() { h.up, h.row = false, 0 }
