// SPDX-License-Identifier: Apache-2.0

// Package config turns the text of configuration files and command line
// flags into a checked Config of real types. It owns the names, older names,
// defaults, ranges and reading rules of all options, in one table (Options),
// and the report of everything that is wrong with a configuration at once.
//
// It does not log, resolve host names, look at the machine's devices or decide
// what a change means for a running daemon: it hands warnings back as data and
// keeps apart what needs a restart (Static) from what a reload may change
// (Dynamic).
package config

import (
	"net/netip"
	"strconv"
	"time"

	"vxsnd/internal/vxlan"
)

// HoldtimeStatic is the holdtime that never runs out: 65535 s stand for a
// static member (PROTOCOL section 3).
const HoldtimeStatic = 65535 * time.Second

// A Config is a complete and checked configuration. The zero value is none:
// start from Default or Load. It is a plain value; its slices are shared by
// copies and must not be changed.
type Config struct {
	Static
	Dynamic
}

// Static is the part of a Config that takes effect at start only.
type Static struct {
	PIDFile string // pid file, absolute when it comes from Load
	UDSFile string // management socket, absolute when it comes from Load
	User    string // name or number of the user to become; "" to be chosen at start
	Group   string // name or number of the group to become; "" for the user's own

	VxfldPort uint16     // control messages, UDP and TCP; never 0
	SvcnodeIP netip.Addr // address VTEPs send to; the wildcard where not set
	SrcIP     netip.Addr // this node's own address for peers; the wildcard where not set
	NodeID    uint64     // identifier in registrations; 0: to be derived from the machine

	VXLANPort         uint16 // what the next two follow where they are not set
	VXLANListenPort   uint16 // port on which VXLAN data is received; never 0
	VXLANDestPort     uint16 // port to which copies are sent; never 0
	EnableVXLANListen bool   // receive and flood data
	ReceiveQueue      int    // receive buffer of a data socket, in bytes

	Engine  Engine // what floods
	Workers int    // flood workers; 0: one per CPU that the process may run on
	VRF     string // VRF device whose routes are the underlay; "" for none

	// SvcnodeIPs is svcnode_ip as a list, which only vxrd takes, each address once
	// or the wildcard alone. For vxsnd it holds SvcnodeIP alone.
	SvcnodeIPs []netip.Addr

	HeadRep   bool   // vxrd: head-end replication
	StateFile string // vxrd: journal of the flood entries that are its own; absolute when it comes from Load
}

// Dynamic is the part of a Config that a reload may change in a running
// daemon.
type Dynamic struct {
	LogLevel       LogLevel
	LogDest        LogDest
	LogFormat      LogFormat
	LogFileSize    int64 // bytes at which a log file is rotated; 0: never
	LogBackupCount int   // rotated log files that are kept

	SvcnodePeers     []Peer         // peers as configured: this node's own address may be among them
	PeerAllow        []netip.Prefix // of others that are believed as peers are; masked, unmapped
	InstallSvcnodeIP bool           // put SvcnodeIP, which is no wildcard then, on the loopback interface while ready
	AnycastLifetime  time.Duration  // life of that address without renewal, in whole seconds
	DrainTime        time.Duration  // time that a stop still serves after the address has gone

	Holdtime time.Duration // life of a learned member, 1 s to HoldtimeStatic
	AgeCheck time.Duration // longest time between sweeps

	MaxPacketSize int  // largest control message sent, in bytes, Ethernet, IPv4 and UDP headers included
	NoFlood       bool // control plane alone

	UDPChecksum    Checksum
	VTEPMembership []Membership // static members, as written
	Learning       Learning
	Oversize       Oversize
	Interfaces     []string // devices where the engine tc takes packets; none: those by which members are reached
	TCMaxMembers   int      // members up to which the engine tc floods a VNI
	Limits         Limits

	SyncTargets    int           // peers asked for their table at start
	SyncTimeout    time.Duration // longest time that a start waits for it
	ResyncInterval time.Duration // time between comparisons with a peer's table; 0: none
	Tiers          Tiers

	MetricsListen  string // where metrics are served: host:port, :port, or the absolute name of a Unix socket; "" for nowhere
	MetricsMaxVNIs int    // VNIs with figures of their own; 0: none is counted by itself
	CaptureRate    int    // packets per second that one capture takes

	RefreshRate     int           // vxrd: registrations per holdtime
	ConfigCheckRate time.Duration // vxrd: time between comparisons with the kernel
	LocalAddr       netip.Addr    // vxrd: for devices without a local address; zero for none
	Svcnode         netip.Addr    // vxrd: for devices without a remote address; zero for none
	WithdrawOnExit  bool          // vxrd: withdraw registrations, and remove flood entries, at a stop for good
	AnswerFrom      AnswerFrom    // vxrd: whose answers are believed
	StaleTime       time.Duration // vxrd: time without an answer after which a flood list is emptied; 0: never
	HrepDevices     []string      // vxrd: devices whose flood lists are programmed although another daemon manages them
}

// Limits caps what the table takes in, so that no sender can make it grow
// without bound.
type Limits struct {
	MaxVNIs     int           // VNIs with at least one member
	MaxMembers  int           // VTEPs per VNI
	MaxEntries  int           // entries of all sources and VNIs together
	MaxLearned  int           // entries learned from data packets among them
	MaxHoldtime time.Duration // longest holdtime that a registration gets
}

// Tiers configures how flooded packets are handed between areas (PROTOCOL
// section 5).
type Tiers struct {
	HasArea             bool       // area is set; all else needs it
	Area                uint32     // this node's own area
	ProxyID             netip.Addr // what this node appends to the path; zero where not set
	ProxyServers        []Peer     // proxies that get each packet of a VTEP
	ProxyLocalOnly      bool       // hand on packets of the own area alone
	EnableFlooding      bool       // flood packets that a proxy hands over
	RefreshProxyServers bool       // hand registrations to the proxies too
	SyncFromProxy       bool       // ask the proxies for the table first
}

// A Peer is another service node or proxy, given by address or by name. Names
// are not resolved here.
type Peer struct {
	Host string     // host name; "" where Addr is valid
	Addr netip.Addr // unmapped, without zone; the zero Addr where Host is a name
	Port uint16     // vxfld_port where none was given; never 0 in a loaded Config
}

// String returns p in the syntax of the configuration file, with its port if
// that is not 0.
func (p Peer) String() string {
	host := p.Host
	if p.Addr.IsValid() {
		host = p.Addr.String()
		if p.Port != 0 && p.Addr.Is6() {
			host = "[" + host + "]"
		}
	}
	if p.Port == 0 {
		return host
	}
	return host + ":" + strconv.Itoa(int(p.Port))
}

// A Membership makes one VTEP a static member of some VNIs. There is at least
// one VNI; the same pair may occur more than once in a Config.
type Membership struct {
	Addr netip.Addr // a unicast address, unmapped, without zone
	VNIs []vxlan.VNI
}

// Default returns the configuration of vxsnd that an empty file gives.
func Default() Config { return DefaultFor(Vxsnd) }

// DefaultFor returns the configuration that an empty file gives to program p.
// A default of the option table that its own parser refuses is a bug and
// panics.
func DefaultFor(p Program) Config {
	var c Config
	for i := range table {
		o := &table[i]
		if o.Obsolete {
			continue
		}
		if err := o.set(&c, p, o.DefaultFor(p)); err != nil {
			panic("config: default of " + o.Name + ": " + err.Error())
		}
	}
	return c
}
