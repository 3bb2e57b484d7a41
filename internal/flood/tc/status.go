// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"errors"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A Status says what the kernel floods.
type Status struct {
	// Loaded tells whether the program is there, and Active whether it floods. Where
	// it does not, Reason says why to people, and Why in a word that is stable.
	Loaded, Active bool
	Reason, Why    string
	// Devices are those where the program takes packets, in order, and Hook is what
	// it is in there: "tcx" or "clsact".
	Devices []string
	Hook    string
	// VNIs are flooded in the kernel, to Members members together; RawVNIs by raw, by
	// reason: it has all that there are.
	VNIs, Members int
	RawVNIs       map[string]int
	// Pending is what is on its way into the kernel: VTEPs whose way is being found
	// out, VNIs and devices still to be looked at. It is 0 where the kernel is up to date.
	Pending int
	// Bytes is the memory of the members' records.
	Bytes int
	// Packets and Copies are those of the kernel, which are among Counters.
	Packets, Copies uint64
	// HandedUp counts the packets that the program left to raw, by reason: it has all
	// that there are.
	HandedUp map[string]uint64
	// Differences counts members that a comparison of the kernel with the table
	// found wrong and mended.
	Differences uint64
}

// Status says what the kernel floods.
func (t *Tc) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := Status{RawVNIs: make(map[string]int, numReasons), HandedUp: make(map[string]uint64, numUps)}
	for _, name := range reasonNames[inKernel+1:] {
		out.RawVNIs[name] = 0
	}
	if err := t.obstacle(); err != nil {
		out.Reason, out.Why = err.Error(), why(err)
	} else {
		out.Active = true
	}
	c := t.past
	if t.side != nil {
		out.Loaded = true
		c.add(t.side.counted())
		t.side.tell(&out)
	}
	out.Packets, out.Copies = c.flood.Packets, c.flood.Copies
	for u := upForeign + 1; u < numUps; u++ {
		out.HandedUp[u.String()] = c.up[u]
	}
	return out
}

// why returns the word for an obstacle.
func why(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrChecksum):
		return "checksum"
	case errors.Is(err, unix.EPERM):
		return "privilege"
	case errors.Is(err, ebpf.ErrNotSupported):
		return "kernel"
	}
	return "failure"
}
