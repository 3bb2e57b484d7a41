// SPDX-License-Identifier: Apache-2.0

package underlay

// A PathState says what is known of the way to an address.
type PathState uint8

const (
	// PathPending is a way that is being found out.
	PathPending PathState = iota
	// PathGood is one by which packets can be sent.
	PathGood
	// PathUnresolved is one whose next hop has no link-layer address, after the
	// kernel has asked for it in vain. It is asked for again each second.
	PathUnresolved
	// PathUnreachable is none: there is no route, or one that ends.
	PathUnreachable
	// PathRefused is one that the kernel does not let a sender take: the route prohibits
	// it, or goes to all of a link.
	PathRefused
	// PathUnfit is one that the IP stack alone can take: by a device without
	// Ethernet, with an encapsulation or under a policy of IPsec, or to this machine.
	PathUnfit
)

var pathNames = []string{"pending", "good", "unresolved", "unreachable", "refused", "unfit"}

// String returns the name of s.
func (s PathState) String() string {
	if int(s) < len(pathNames) {
		return pathNames[s]
	}
	return "unknown"
}

// A Path is the way to an address as the kernel would take it now.
type Path struct {
	State PathState
	// Index is the outgoing device, Source its MAC address, and NextHop that of the
	// next hop; of PathGood alone.
	Index           int
	Source, NextHop [6]byte
	// MTU is the largest IP packet that may be sent on the way, in bytes; of PathGood
	// and PathUnresolved.
	MTU int
}

// A PathDevice is an outgoing device of a way to an address, one that is up and
// speaks Ethernet.
type PathDevice struct {
	Index int
	Name  string
	MTU   int
}
