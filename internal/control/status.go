// SPDX-License-Identifier: Apache-2.0

package control

import "net/netip"

// CommandShow is the command that is answered with one Status. It takes no
// arguments.
const CommandShow = "show"

// A Status says how a service node does. Counters count since it started.
type Status struct {
	Process
	// Ready tells whether the daemon does all that it is configured to do.
	Ready bool `json:"ready"`
	// Engine is what floods: "tc", in the kernel as far as it goes, "raw", or "none"
	// where nothing does. EngineReason says why it is not the one that was wanted,
	// empty where it is.
	Engine       string `json:"engine"`
	EngineReason string `json:"engine_reason,omitempty"`
	// Devices are those that an engine in the kernel has its programs on.
	Devices []string `json:"devices,omitempty"`
	// Kernel says what such an engine does, nil where it is not there.
	Kernel *Kernel `json:"kernel,omitempty"`
	// ProtocolVersion is the highest version of registrations that is spoken.
	ProtocolVersion int `json:"protocol_version"`
	// SvcnodeIP and SrcIP are the addresses of the node; left out where it takes
	// any of the machine's.
	SvcnodeIP netip.Addr `json:"svcnode_ip,omitzero"`
	SrcIP     netip.Addr `json:"src_ip,omitzero"`
	// Peers are the peer service nodes as they are configured, without this one.
	Peers []string `json:"peers,omitempty"`
	// Waiting says what the node waits for before it is ready, empty if it is.
	Waiting string `json:"waiting,omitempty"`
	// Asking tells whether peers are asked for their table since none that counts
	// was had; a node may be ready without.
	Asking bool `json:"asking,omitempty"`
	// Anycast is the service address that the node puts on an interface, nil if it
	// puts none there.
	Anycast *Anycast `json:"anycast,omitempty"`
	// The UDP ports: of registrations, of data packets received and of copies.
	VxfldPort       uint16 `json:"vxfld_port"`
	VXLANListenPort uint16 `json:"vxlan_listen_port,omitempty"`
	VXLANDestPort   uint16 `json:"vxlan_dest_port,omitempty"`
	// VRF is the VRF device of the underlay, empty for none.
	VRF string `json:"vrf,omitempty"`

	// MetricsListen is where metrics are served, empty for nowhere.
	MetricsListen string `json:"metrics_listen,omitempty"`

	// VNIs, Members and Entries are the sizes of the table: one member may have
	// several entries.
	VNIs    int `json:"vnis"`
	Members int `json:"members"`
	Entries int `json:"entries"`
	// BySource counts the entries by FDBEntry.Source.
	BySource map[string]int `json:"entries_by_source,omitempty"`

	// Packets and Bytes were received, Copies and CopyBytes sent, in UDP payload.
	Packets   uint64 `json:"packets"`
	Bytes     uint64 `json:"bytes"`
	Copies    uint64 `json:"copies"`
	CopyBytes uint64 `json:"copy_bytes"`
	// Fragmented counts the copies larger than the MTU of the outgoing device.
	Fragmented uint64 `json:"fragmented"`
	// Learned counts the members that were learned from data.
	Learned uint64 `json:"learned"`
	// Loops counts the sampled packets that came back.
	Loops uint64 `json:"loops"`
	// Drops counts packets and copies that were dropped, by reason.
	Drops map[string]uint64 `json:"drops,omitempty"`

	// Queues is what waits in the sockets of the flood engine.
	Queues Queues `json:"queues,omitzero"`

	// Registrations counts the control messages received, by verdict.
	Registrations map[string]uint64 `json:"registrations,omitempty"`
	// PeerConnections counts the TCP connections of peers.
	PeerConnections Connections `json:"peer_connections,omitzero"`
}

// A Kernel says what an engine in the kernel floods. Its counters are part of
// those of the Status.
type Kernel struct {
	// Hook is what its programs are in: "tcx" or "clsact"; empty where they are on no
	// device.
	Hook string `json:"hook,omitempty"`
	// VNIs are flooded in the kernel, to Members members together, which take Bytes
	// of memory. RawVNIs are flooded by raw, by reason.
	VNIs    int            `json:"vnis"`
	Members int            `json:"members"`
	Bytes   int            `json:"bytes"`
	RawVNIs map[string]int `json:"raw_vnis,omitempty"`
	// Pending is what is on its way into the kernel: VTEPs whose way is being found
	// out, VNIs and devices still to be looked at. 0 is a kernel that is up to date.
	Pending int `json:"pending"`
	// Packets were flooded in the kernel, with Copies copies; HandedUp were left to
	// raw, by reason.
	Packets  uint64            `json:"packets"`
	Copies   uint64            `json:"copies"`
	HandedUp map[string]uint64 `json:"handed_up,omitempty"`
	// Differences counts members that were found to be others in the kernel than in
	// the table, and mended.
	Differences uint64 `json:"differences"`
}

// Connections count connections by verdict: those whose message was taken in or
// answered, and the others.
type Connections struct {
	Accepted map[string]uint64 `json:"accepted"`
	Refused  map[string]uint64 `json:"refused"`
}

// IsZero tells whether there are no figures.
func (c Connections) IsZero() bool { return c.Accepted == nil && c.Refused == nil }

// Queues are bytes as the kernel counts them: with what it adds to each packet.
type Queues struct {
	// Receive is what was received and is not read yet, Send what was sent and has
	// not left the machine.
	Receive int `json:"receive"`
	Send    int `json:"send"`
}

// A Check is a start-up check that failed.
type Check struct {
	// Name is its stable name.
	Name string `json:"name"`
	// Text says what is wrong and Fix what to do about it, both one line.
	Text string `json:"text"`
	Fix  string `json:"fix,omitempty"`
}

// An Anycast says how the service address on the loopback interface does.
type Anycast struct {
	Address netip.Addr `json:"address"`
	// Interface is lo, or the VRF device.
	Interface string `json:"interface"`
	// Owner says whose the address there is: "vxsnd", "operator" or "none".
	Owner string `json:"owner"`
	// SinceSeconds is how long that has been so.
	SinceSeconds int64 `json:"since_seconds"`
	// Healthy tells whether the node is fit to have it, and Problem what is wrong
	// with the node or the last change of the address.
	Healthy bool   `json:"healthy"`
	Problem string `json:"problem,omitempty"`
	// Draining tells whether it was withdrawn and packets are still served.
	Draining bool `json:"draining"`
}
