// SPDX-License-Identifier: Apache-2.0

package tc

// An up is a reason for which the program hands a packet up to raw, in the order
// of maps.bpf.h.
type up uint8

const (
	upForeign up = iota
	upStale
	upHeader
	upTTL
	upVNI
	upLength
	upSender
	upChecksum
	upOrder
	numUps
)

// upNames are stable: they appear in metrics.
var upNames = [numUps]string{
	upForeign:  "foreign",
	upStale:    "stale",
	upHeader:   "header",
	upTTL:      "ttl",
	upVNI:      "vni",
	upLength:   "length",
	upSender:   "sender",
	upChecksum: "checksum",
	upOrder:    "order",
}

// String returns the name of the reason.
func (u up) String() string {
	if u < numUps {
		return upNames[u]
	}
	return "unknown"
}

// What became of copies and of packets without any, as slots count it in the
// order of maps.bpf.h.
const (
	slotNoMember = iota
	slotUnreachable
	slotUnresolved
	slotRefused
	slotBlocked
	slotOverrun
)
