// SPDX-License-Identifier: Apache-2.0

package control

import (
	"iter"
	"net/netip"
)

// CommandVXLANs is the command of a registration daemon that is answered with
// any number of []VXLAN, in the order of VNI and device. Its arguments are
// VNIArgs.
const CommandVXLANs = "vxlans"

// The other commands of a registration daemon are CommandShow, which is answered
// with one Registrar, and CommandPeers, which is answered with any number of
// []FloodList in the order of VNI and device, and with none outside head-end
// replication. The arguments of the latter are VNIArgs.

// partAddresses is how many addresses end a part. With the last list of a part,
// which may have 16,384 more of up to 18 bytes, the line stays within its bound.
const partAddresses = 8192

// Parts returns the parts of a long answer, in order: each has at most MaxPart
// values, and ends with the one that brings it to partAddresses addresses.
func Parts[T any](values []T, addresses func(*T) int) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		start, sum := 0, 0
		for i := range values {
			sum += addresses(&values[i])
			if n := i + 1 - start; n < MaxPart && sum < partAddresses && i < len(values)-1 {
				continue
			}
			if !yield(values[start : i+1]) {
				return
			}
			start, sum = i+1, 0
		}
	}
}

// VNIArgs are the arguments of a command about VNIs.
type VNIArgs struct {
	// VNI is the one VNI to answer for, nil for all.
	VNI *uint32 `json:"vni,omitempty"`
}

// A Registrar says how a registration daemon does. Counters count since it
// started.
type Registrar struct {
	Process
	// Ready tells whether the daemon does all that it is configured to do.
	Ready bool `json:"ready"`
	// HeadRep tells whether head-end replication is on.
	HeadRep bool `json:"head_rep"`
	// NodeID is the identifier in registrations, as 0x and hexadecimal digits; empty
	// until there is one.
	NodeID string `json:"node_id,omitempty"`
	// SvcnodeIPs are the service nodes of the configuration; left out where those
	// of the devices are used.
	SvcnodeIPs []netip.Addr `json:"svcnode_ips,omitempty"`
	// AnswerFrom says whose answers are believed, as the configuration has it.
	AnswerFrom string `json:"answer_from"`
	// SrcIP is the address that registrations are sent from; left out where it is
	// that of each device.
	SrcIP netip.Addr `json:"src_ip,omitzero"`
	// The UDP ports: of registrations, and of the devices that are registered.
	VxfldPort uint16 `json:"vxfld_port"`
	VXLANPort uint16 `json:"vxlan_port"`
	// VRF is the VRF device of the underlay, empty for none.
	VRF string `json:"vrf,omitempty"`

	// Devices counts the VXLAN devices; Registered and Skipped the VNIs of them that
	// are registered and that are not.
	Devices    int `json:"devices"`
	Registered int `json:"registered"`
	Skipped    int `json:"skipped"`
	// LastRegistration and LastAnswer are how many seconds ago a registration was
	// sent and an answer was believed; nil if that never happened.
	LastRegistration *int64 `json:"last_registration"`
	LastAnswer       *int64 `json:"last_answer"`
	// Stale tells whether the service nodes are silent, so that flood lists are
	// kept as they were.
	Stale bool `json:"stale"`
	// Sent counts the messages sent, SendErrors those that the kernel did not take.
	Sent       uint64 `json:"sent"`
	SendErrors uint64 `json:"send_errors"`
	// Answers counts the datagrams received, by verdict.
	Answers map[string]uint64 `json:"answers,omitempty"`
	// LeftOut counts the addresses in answers that cannot be members.
	LeftOut uint64 `json:"left_out"`
	// Programmed counts the flood entries of the kernel that are the daemon's own.
	Programmed int `json:"programmed"`
	// Warnings say what an operator should look at, each in one line.
	Warnings []string `json:"warnings,omitempty"`
}

// A VXLAN is one VNI of a VXLAN device.
type VXLAN struct {
	VNI    uint32 `json:"vni"`
	Device string `json:"device"`
	Index  int    `json:"index"`
	// Local is the local address that is registered; left out where there is none.
	Local netip.Addr `json:"local,omitzero"`
	// ServiceNodes are those that it is registered with, or would be.
	ServiceNodes []netip.Addr `json:"service_nodes,omitempty"`
	// Registered tells whether it is, and Reason why not.
	Registered bool   `json:"registered"`
	Reason     string `json:"reason,omitempty"`
	// Up tells whether the device is up.
	Up bool `json:"up"`
	// RegisteredAgo is how many seconds ago it was last registered; nil if it never
	// was.
	RegisteredAgo *int64 `json:"registered_ago"`
}

// A FloodList is the head-end list of one VNI of a device.
type FloodList struct {
	VNI    uint32 `json:"vni"`
	Device string `json:"device"`
	Index  int    `json:"index"`
	// Members are the VTEPs that are wanted in the list.
	Members []netip.Addr `json:"members"`
	// Own and Foreign count the entries in the kernel: the daemon's own, and those
	// of others.
	Own     int `json:"own"`
	Foreign int `json:"foreign"`
	// Unregistered tells whether the list is kept although its VNI is not registered
	// now, so that no service node is to speak of it.
	Unregistered bool `json:"unregistered,omitempty"`
	// Stale tells whether it is kept although none of those that should speaks any
	// more.
	Stale bool `json:"stale"`
	// LastAnswer is how many seconds ago an answer was taken for the list; nil if
	// none ever was. From are the addresses that the answers came from.
	LastAnswer *int64       `json:"last_answer"`
	From       []netip.Addr `json:"from,omitempty"`
	// Managed tells whether the device is left alone because another daemon manages
	// its entries.
	Managed bool `json:"managed"`
	// Problem says why the kernel does not have what is wanted, empty where it does.
	Problem string `json:"problem,omitempty"`
}
