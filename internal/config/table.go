// SPDX-License-Identifier: Apache-2.0

package config

import (
	"math"
	"net/netip"
	"strconv"
	"time"
)

// The headings under which help and the example file list the options.
const (
	groupLog     = "Logging"
	groupProcess = "Process"
	groupControl = "Control plane"
	groupData    = "Data plane"
	groupTable   = "Table"
	groupPeers   = "Peers"
	groupMonitor = "Monitoring"
	groupTiers   = "Tiers"
	groupVxrd    = "Registration"
	groupDevices = "Devices"
	groupHeadEnd = "Head-end replication"
	groupAnswers = "Answers"
)

// groups is the order of the headings.
var groups = []string{
	groupLog, groupProcess, groupControl, groupData, groupTable, groupPeers, groupMonitor, groupTiers,
	groupVxrd, groupDevices, groupHeadEnd, groupAnswers, "",
}

const (
	// maxDatagram is the largest UDP datagram over IPv4, 65507 bytes, with the
	// 42 bytes of Ethernet, IPv4 and UDP headers that max_packet_size counts
	// (PROTOCOL section 1).
	maxDatagram = 65507 + 42

	// minDatagram leaves room for any answer that names one member.
	minDatagram = 128

	// maxReceiveQueue is half of what an int32 holds, since the kernel doubles
	// what SO_RCVBUF asks for (socket(7)).
	maxReceiveQueue = math.MaxInt32 / 2

	// minReceiveQueue is about what the kernel gives in any case (SOCK_MIN_RCVBUF).
	minReceiveQueue = 2048

	maxPath = 4095 // PATH_MAX of Linux with the final zero is 4096
)

var (
	count      = number[int](1, 100_000_000)
	port       = number[uint16](1, 65535)
	everySoOft = seconds(1, 65535)
)

// table is the one list of options. Its order is that of the documents.
var table = []Option{
	{Name: "loglevel", Group: groupLog, Shorthand: "L", Arg: "LEVEL", Programs: Both, Reload: true, def: "info",
		Doc:  "least severity that is logged: debug, info, warning, error or critical",
		bind: to(func(c *Config) *LogLevel { return &c.LogLevel }, enum[LogLevel](levelNames))},
	{Name: "logdest", Group: groupLog, Shorthand: "l", Arg: "DEST", Programs: Both, Reload: true, def: "syslog",
		Doc:  "where the log goes: a file name, stdout, or syslog",
		bind: to(func(c *Config) *LogDest { return &c.LogDest }, logDest)},
	{Name: "log_format", Group: groupLog, Arg: "FORMAT", Programs: Both, Reload: true, def: "text",
		Doc:  "form of a log line: text or json",
		bind: to(func(c *Config) *LogFormat { return &c.LogFormat }, enum[LogFormat](formatNames))},
	{Name: "logfilesize", Group: groupLog, Arg: "BYTES", Programs: Both, Reload: true, def: "512000",
		Doc:  "size at which a log file is rotated; 0 never rotates it",
		bind: to(func(c *Config) *int64 { return &c.LogFileSize }, number[int64](0, 1<<40))},
	{Name: "logbackupcount", Group: groupLog, Arg: "N", Programs: Both, Reload: true, def: "14",
		Doc:  "rotated log files that are kept",
		bind: to(func(c *Config) *int { return &c.LogBackupCount }, number[int](0, 10_000))},

	{Name: "pidfile", Group: groupProcess, Shorthand: "p", Arg: "FILE",
		Programs: Both, def: "/var/run/vxsnd.pid", defVxrd: "/var/run/vxrd.pid",
		Doc:  "file for the process id",
		bind: to(func(c *Config) *string { return &c.PIDFile }, path(maxPath))},
	{Name: "udsfile", Group: groupProcess, Shorthand: "u", Arg: "FILE",
		Programs: Both, def: "/var/run/vxsnd.sock", defVxrd: "/var/run/vxrd.sock",
		Doc:  "Unix socket for management",
		bind: to(func(c *Config) *string { return &c.UDSFile }, path(maxUDSPath))},
	{Name: "statefile", Group: groupProcess, Arg: "FILE", Programs: Vxrd, def: "/var/run/vxrd.state",
		Doc:  "file that tells which flood entries are the daemon's own after a restart",
		bind: to(func(c *Config) *string { return &c.StateFile }, path(maxPath))},
	{Name: "user", Group: groupProcess, Arg: "USER", Programs: Both, def: auto,
		DefaultNote: "vxsnd where that user exists",
		vxrd:        func(o *Option) { o.DefaultNote = "vxrd where that user exists" },
		Doc:         "user, by name or number, that the daemon becomes if root starts it",
		bind:        to(func(c *Config) *string { return &c.User }, account)},
	{Name: "group", Group: groupProcess, Arg: "GROUP", Programs: Both, def: auto,
		DefaultNote: "the user's own group",
		Doc:         "group, by name or number, that it becomes along with the user",
		bind:        to(func(c *Config) *string { return &c.Group }, account)},

	{Name: "vxfld_port", Group: groupControl, Arg: "PORT", Programs: Both, def: "10001",
		Doc:  "port of the control messages",
		vxrd: under(groupVxrd),
		bind: to(func(c *Config) *uint16 { return &c.VxfldPort }, port)},
	{Name: "svcnode_ip", Aliases: []string{"address"}, Group: groupControl, Arg: "ADDRESS",
		Programs: Both, List: true, def: "0.0.0.0",
		Doc: "address that VTEPs send to, often an anycast address",
		vxrd: func(o *Option) {
			o.Group, o.Arg = groupVxrd, "LIST"
			o.Doc, o.DefaultNote = "service nodes to register with", "the remote address of each device"
		},
		bind: binding{set: serviceAddrs, get: func(c *Config) string {
			return list(c.SvcnodeIPs, netip.Addr.String)
		}}},
	{Name: "src_ip", Group: groupControl, Arg: "ADDRESS", Programs: Both, def: "0.0.0.0",
		Doc: "this node's own address for traffic with peers",
		vxrd: func(o *Option) {
			o.Group = groupVxrd
			o.Doc, o.DefaultNote = "address that registrations are sent from", "the local address of each device"
		},
		bind: to(func(c *Config) *netip.Addr { return &c.SrcIP }, bindAddr)},
	{Name: "install_svcnode_ip", Aliases: []string{"install_addr"}, Group: groupControl,
		Programs: Vxsnd, Reload: true, def: "false",
		DefaultNote: "false; true where --svcnode-ip is given on the command line",
		Doc:         "put svcnode_ip on the loopback interface while ready",
		bind:        to(func(c *Config) *bool { return &c.InstallSvcnodeIP }, boolean)},
	{Name: "anycast_lifetime", Group: groupControl, Arg: "SECONDS", Programs: Vxsnd, Reload: true, def: "3",
		Doc:  "time after which the kernel removes an installed svcnode_ip that is not renewed",
		bind: to(func(c *Config) *time.Duration { return &c.AnycastLifetime }, seconds(2, 3600))},
	{Name: "drain_time", Group: groupControl, Arg: "SECONDS", Programs: Vxsnd, Reload: true, def: "2",
		Doc:  "time for which a stop still serves after an installed svcnode_ip was withdrawn",
		bind: to(func(c *Config) *time.Duration { return &c.DrainTime }, seconds(0, 300))},
	{Name: "max_packet_size", Group: groupControl, Arg: "BYTES", Programs: Both, Reload: true, def: "1500",
		Doc:  "largest control message that is sent, headers included",
		vxrd: under(groupVxrd),
		bind: to(func(c *Config) *int { return &c.MaxPacketSize }, number[int](minDatagram, maxDatagram))},

	{Name: "enable_vxlan_listen", Group: groupData, Programs: Vxsnd, def: "true",
		Doc:  "receive VXLAN data and flood it",
		bind: to(func(c *Config) *bool { return &c.EnableVXLANListen }, boolean)},
	{Name: "no_flood", Aliases: []string{"no_replicate"}, Group: groupData, Shorthand: "R",
		Programs: Vxsnd, Reload: true, def: "false",
		Doc:  "control plane alone: flood nothing, need no privilege",
		bind: to(func(c *Config) *bool { return &c.NoFlood }, boolean)},
	{Name: "vxlan_port", Group: groupData, Arg: "PORT", Programs: Both, def: "4789",
		Doc: "UDP port of VXLAN data, in both directions",
		vxrd: func(o *Option) {
			o.Group, o.Doc = groupDevices, "destination port of the VXLAN devices that are registered"
		},
		bind: to(func(c *Config) *uint16 { return &c.VXLANPort }, port)},
	{Name: "vxlan_listen_port", Group: groupData, Arg: "PORT",
		Programs: Vxsnd, def: "4789", DefaultNote: "vxlan_port",
		Doc:  "UDP port on which VXLAN data is received",
		bind: to(func(c *Config) *uint16 { return &c.VXLANListenPort }, port)},
	{Name: "vxlan_dest_port", Group: groupData, Arg: "PORT", Programs: Vxsnd, def: "4789", DefaultNote: "vxlan_port",
		Doc:  "UDP port to which copies are sent",
		bind: to(func(c *Config) *uint16 { return &c.VXLANDestPort }, port)},
	{Name: "receive_queue", Group: groupData, Arg: "BYTES", Programs: Vxsnd, def: "8388608",
		Doc:  "receive buffer of a data socket",
		bind: to(func(c *Config) *int { return &c.ReceiveQueue }, number[int](minReceiveQueue, maxReceiveQueue))},
	{Name: "udp_checksum", Aliases: []string{"enable_udp_chksum"}, Group: groupData, Arg: "MODE",
		Programs: Vxsnd, Reload: true, def: "zero",
		Doc:  "UDP checksum of IPv4 copies: zero or compute",
		bind: to(func(c *Config) *Checksum { return &c.UDPChecksum }, checksum)},
	{Name: "oversize", Group: groupData, Arg: "MODE", Programs: Vxsnd, Reload: true, def: "fragment",
		Doc:  "copies larger than the MTU: fragment or drop",
		bind: to(func(c *Config) *Oversize { return &c.Oversize }, enum[Oversize](oversizeNames))},
	{Name: "engine", Group: groupData, Arg: "NAME", Programs: Vxsnd, def: auto,
		Doc:  "what floods: tc, in the kernel, raw, or auto, which is tc where it works",
		bind: to(func(c *Config) *Engine { return &c.Engine }, enum[Engine](engineNames))},
	{Name: "interfaces", Group: groupData, Arg: "LIST", Programs: Vxsnd, Reload: true, List: true, def: none,
		Doc:  "devices where the engine tc takes packets; none is those by which members are reached",
		bind: to(func(c *Config) *[]string { return &c.Interfaces }, devices)},
	{Name: "tc_max_members", Group: groupData, Arg: "N", Programs: Vxsnd, Reload: true, def: "256",
		Doc:  "members up to which the engine tc floods a VNI",
		bind: to(func(c *Config) *int { return &c.TCMaxMembers }, number[int](1, 4095))},
	{Name: "workers", Group: groupData, Arg: "N", Programs: Vxsnd, def: auto, DefaultNote: "one per CPU",
		Doc:  "flood workers",
		bind: to(func(c *Config) *int { return &c.Workers }, orAuto(number[int](0, 1024)))},
	{Name: "vrf", Group: groupData, Arg: "DEVICE", Programs: Both, def: none,
		Doc:  "VRF device whose addresses and routes are the underlay",
		vxrd: under(groupDevices),
		bind: to(func(c *Config) *string { return &c.VRF }, device)},

	{Name: "holdtime", Group: groupTable, Arg: "SECONDS", Programs: Both, Reload: true, def: "90",
		Doc: "life of a learned member; 65535 never ages",
		vxrd: func(o *Option) {
			o.Group, o.Doc = groupVxrd, "life of a registration that is not renewed; 65535 never ages"
		},
		bind: to(func(c *Config) *time.Duration { return &c.Holdtime }, everySoOft)},
	{Name: "age_check", Group: groupTable, Arg: "SECONDS", Programs: Vxsnd, Reload: true, def: "90",
		Doc:  "longest time between sweeps of the table",
		bind: to(func(c *Config) *time.Duration { return &c.AgeCheck }, everySoOft)},
	{Name: "learning", Group: groupTable, Arg: "MODE", Programs: Vxsnd, Reload: true, def: "any",
		Doc:  "learn members from data: off, known or any",
		bind: to(func(c *Config) *Learning { return &c.Learning }, enum[Learning](learningNames))},
	{Name: "vtep_membership", Group: groupTable, Arg: "'ADDRESS VNI ...'",
		Programs: Vxsnd, Reload: true, List: true, Sums: true, def: none,
		Doc:  "a static member and its VNIs; may be repeated",
		bind: to(func(c *Config) *[]Membership { return &c.VTEPMembership }, memberships)},
	{Name: "max_vnis", Group: groupTable, Arg: "N", Programs: Vxsnd, Reload: true, def: "65536",
		Doc:  "cap on VNIs that have members",
		bind: to(func(c *Config) *int { return &c.Limits.MaxVNIs }, number[int](1, 1<<24))},
	{Name: "max_members", Group: groupTable, Arg: "N", Programs: Vxsnd, Reload: true, def: "16384",
		Doc:  "cap on VTEPs per VNI",
		bind: to(func(c *Config) *int { return &c.Limits.MaxMembers }, count)},
	{Name: "max_entries", Group: groupTable, Arg: "N", Programs: Vxsnd, Reload: true, def: "2000000",
		Doc:  "cap on entries of the whole table",
		bind: to(func(c *Config) *int { return &c.Limits.MaxEntries }, count)},
	{Name: "max_learned", Group: groupTable, Arg: "N", Programs: Vxsnd, Reload: true, def: "250000",
		Doc:  "cap on learned entries, which registrations may evict",
		bind: to(func(c *Config) *int { return &c.Limits.MaxLearned }, number[int](0, 100_000_000))},
	{Name: "max_holdtime", Group: groupTable, Arg: "SECONDS", Programs: Vxsnd, Reload: true, def: "65535",
		Doc:  "longest holdtime that a registration gets",
		bind: to(func(c *Config) *time.Duration { return &c.Limits.MaxHoldtime }, seconds(1, math.MaxUint32))},

	{Name: "svcnode_peers", Aliases: []string{"servers"}, Group: groupPeers, Shorthand: "s", Flag: "servers", Arg: "LIST",
		Programs: Both, Reload: true, List: true, def: none,
		Doc: "peer service nodes: names or addresses, each with an optional :PORT",
		vxrd: func(o *Option) {
			o.Group, o.Shorthand, o.Flag = groupAnswers, "", ""
			o.Doc = "service nodes that answer_from = service believes beside svcnode_ip"
		},
		bind: to(func(c *Config) *[]Peer { return &c.SvcnodePeers }, peers)},
	{Name: "peer_allow", Group: groupPeers, Arg: "LIST", Programs: Vxsnd, Reload: true, List: true, def: none,
		Doc:  "prefixes of others that are believed as peers are, and told nothing",
		bind: to(func(c *Config) *[]netip.Prefix { return &c.PeerAllow }, prefixes)},
	{Name: "sync_targets", Group: groupPeers, Arg: "N", Programs: Vxsnd, Reload: true, def: "1",
		Doc:  "peers that are asked for their table at start",
		bind: to(func(c *Config) *int { return &c.SyncTargets }, number[int](0, 10_000))},
	{Name: "sync_timeout", Group: groupPeers, Arg: "SECONDS", Programs: Vxsnd, Reload: true, def: "30",
		Doc:  "longest time that a start waits for a peer's table",
		bind: to(func(c *Config) *time.Duration { return &c.SyncTimeout }, seconds(1, 3600))},
	{Name: "resync_interval", Group: groupPeers, Arg: "SECONDS", Programs: Vxsnd, Reload: true, def: "300",
		Doc:  "time between comparisons of the table with a peer's; 0 makes none",
		bind: to(func(c *Config) *time.Duration { return &c.ResyncInterval }, seconds(0, 86400))},

	{Name: "metrics_listen", Group: groupMonitor, Arg: "LISTEN", Programs: Vxsnd, Reload: true, def: none,
		Doc:  "where metrics are to be had over HTTP: ADDRESS:PORT, :PORT, or the file name of a Unix socket",
		bind: to(func(c *Config) *string { return &c.MetricsListen }, listenAt)},
	{Name: "metrics_max_vnis", Group: groupMonitor, Arg: "N", Programs: Vxsnd, Reload: true, def: "1000",
		Doc:  "VNIs that have figures of their own; 0 counts nothing per VNI",
		bind: to(func(c *Config) *int { return &c.MetricsMaxVNIs }, number[int](0, 65536))},
	{Name: "capture_rate", Group: groupMonitor, Arg: "N", Programs: Vxsnd, Reload: true, def: "1000",
		Doc:  "packets per second that captures take of a VXLAN",
		bind: to(func(c *Config) *int { return &c.CaptureRate }, number[int](1, 100_000))},

	{Name: "area", Group: groupTiers, Arg: "N", Programs: Vxsnd, Reload: true, Later: true, def: none,
		Doc:  "this node's area; proxies need it",
		bind: binding{set: setArea, get: getArea}},
	{Name: "proxy_id", Group: groupTiers, Arg: "ADDRESS", Programs: Vxsnd, Reload: true, Later: true, def: none,
		Doc:  "address that stands for this node in the path of a handed packet",
		bind: to(func(c *Config) *netip.Addr { return &c.Tiers.ProxyID }, optionalAddr)},
	{Name: "vxfld_proxy_servers", Group: groupTiers, Arg: "LIST",
		Programs: Vxsnd, Reload: true, List: true, Later: true, def: none,
		Doc:     "proxies that get each packet of a VTEP",
		bind:    to(func(c *Config) *[]Peer { return &c.Tiers.ProxyServers }, peers),
		pending: "nothing is handed to proxies in this version; their addresses get no copies"},
	{Name: "proxy_local_only", Group: groupTiers, Programs: Vxsnd, Reload: true, Later: true, def: "true",
		Doc:  "hand on packets of the own area alone",
		bind: to(func(c *Config) *bool { return &c.Tiers.ProxyLocalOnly }, boolean)},
	{Name: "enable_flooding", Group: groupTiers, Programs: Vxsnd, Reload: true, Later: true, def: "true",
		Doc:  "flood packets that a proxy hands over",
		bind: to(func(c *Config) *bool { return &c.Tiers.EnableFlooding }, boolean)},
	{Name: "refresh_proxy_servers", Group: groupTiers, Programs: Vxsnd, Reload: true, Later: true, def: "false",
		Doc:  "hand registrations to the proxies too",
		bind: to(func(c *Config) *bool { return &c.Tiers.RefreshProxyServers }, boolean)},
	{Name: "sync_from_proxy", Group: groupTiers, Programs: Vxsnd, Reload: true, Later: true, def: "false",
		Doc:  "ask the proxies for the table first",
		bind: to(func(c *Config) *bool { return &c.Tiers.SyncFromProxy }, boolean)},

	{Name: "node_id", Group: groupVxrd, Arg: "ID", Programs: Vxrd, def: auto,
		DefaultNote: "from the machine id and the lowest local address",
		Doc:         "identifier in registrations",
		bind:        to(func(c *Config) *uint64 { return &c.NodeID }, nodeID)},
	{Name: "refresh_rate", Group: groupVxrd, Arg: "N", Programs: Vxrd, Reload: true, def: "3",
		Doc:  "registrations per holdtime",
		bind: to(func(c *Config) *int { return &c.RefreshRate }, number[int](1, 65535))},
	{Name: "withdraw_on_exit", Group: groupVxrd, Programs: Vxrd, Reload: true, def: "true",
		Doc:  "at a stop, withdraw what is registered and remove the flood entries",
		bind: to(func(c *Config) *bool { return &c.WithdrawOnExit }, boolean)},

	{Name: "local_addr", Group: groupDevices, Arg: "ADDRESS", Programs: Vxrd, Reload: true, def: none,
		Doc:  "local address of a device that has none of its own",
		vxrd: func(o *Option) { o.Shorthand = "a" },
		bind: to(func(c *Config) *netip.Addr { return &c.LocalAddr }, optionalAddr)},
	{Name: "svcnode", Group: groupDevices, Arg: "ADDRESS", Programs: Vxrd, Reload: true, def: none,
		Doc:  "service node of a device that has no remote address of its own",
		vxrd: func(o *Option) { o.Shorthand = "s" },
		bind: to(func(c *Config) *netip.Addr { return &c.Svcnode }, optionalAddr)},

	{Name: "head_rep", Aliases: []string{"selfrep"}, Group: groupHeadEnd, Programs: Vxrd, def: "true",
		Doc:  "give each device the other VTEPs as destinations of flooded packets",
		bind: to(func(c *Config) *bool { return &c.HeadRep }, boolean)},
	{Name: "config_check_rate", Group: groupHeadEnd, Arg: "SECONDS", Programs: Vxrd, Reload: true, def: "60",
		Doc:  "time between comparisons with the kernel",
		bind: to(func(c *Config) *time.Duration { return &c.ConfigCheckRate }, everySoOft)},
	{Name: "hrep_devices", Group: groupHeadEnd, Arg: "LIST", Programs: Vxrd, Reload: true, List: true, def: none,
		Doc:  "devices that are programmed although another daemon manages them",
		bind: to(func(c *Config) *[]string { return &c.HrepDevices }, devices)},

	{Name: "answer_from", Group: groupAnswers, Arg: "LIST", Programs: Vxrd, Reload: true, List: true, def: "any",
		Doc:  "whose answers are believed: any, service, or prefixes",
		bind: to(func(c *Config) *AnswerFrom { return &c.AnswerFrom }, answerFrom)},
	{Name: "stale_time", Group: groupAnswers, Arg: "SECONDS", Programs: Vxrd, Reload: true, def: "0",
		Doc:  "time without an answer after which a flood list is emptied; 0 keeps it",
		bind: to(func(c *Config) *time.Duration { return &c.StaleTime }, seconds(0, math.MaxUint32))},

	{Name: "concurrency", Programs: Both, Obsolete: true},
	{Name: "eventlet_backdoor_port", Programs: Both, Obsolete: true},
	{Name: "monitor", Programs: Both, Obsolete: true},
	{Name: "debug", Programs: Both, Obsolete: true},
}

// under puts an option under another heading.
func under(group string) func(*Option) { return func(o *Option) { o.Group = group } }

func setArea(c *Config, _ Program, s string) error {
	c.Tiers.HasArea, c.Tiers.Area = false, 0
	if isNone(s) {
		return nil
	}
	n, err := parseNumber(s, 0, math.MaxUint32)
	if err != nil {
		return err
	}
	c.Tiers.HasArea, c.Tiers.Area = true, uint32(n)
	return nil
}

func getArea(c *Config) string {
	if !c.Tiers.HasArea {
		return none
	}
	return strconv.FormatUint(uint64(c.Tiers.Area), 10)
}
