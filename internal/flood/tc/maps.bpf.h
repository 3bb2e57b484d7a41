/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */

/*
 * What the program and user space share: maps, and the records in them. All are
 * written by user space, which owns their contents; the program writes counters
 * and what it sees of senders and flows alone.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define SEGMENT_MEMBERS 65536 /* records in one segment */
#define MAX_SEGMENTS    64
#define MAX_DESTS       65536
#define MAX_DEVICES     256
#define MAX_SLOTS       65536
#define MAX_SERVICES    1024
#define MAX_ARRIVALS    256
#define FLOWS           4096 /* a power of 2 */

/* The outer headers that are looked at: Ethernet, IPv4, UDP, VXLAN. */
#define VXLAN_LEN 8
#define HEAD      (ETH_HLEN + sizeof(struct iphdr) + sizeof(struct udphdr) + VXLAN_LEN)
#define VXLAN_I   0x08 /* RFC 7348, section 5 */
#define FRAGMENT  0x3fff /* more fragments, or an offset (RFC 791) */

/* One packet in 16 is sampled. */
#define SAMPLE_MASK 15

/* How much of a payload a sample has, in bytes. */
#define SAMPLE_HEAD 64

/* Flags of a member. */
#define MEMBER_KNOWN   1 /* the table has nothing to learn from its packets */
#define MEMBER_LEARNED 2 /* its packets extend its life */

/* What became of the packets of a VNI. The order is that of slotDrops. */
enum {
	DROP_NO_MEMBER,
	DROP_UNREACHABLE, /* this and the next two: of a destination, as user space says */
	DROP_UNRESOLVED,
	DROP_REFUSED,
	DROP_BLOCKED,
	DROP_OVERRUN, /* of a packet: raw is overrun */
	NUM_DROPS,
};

/* Why a packet went up. The order is that of upReasons. */
enum {
	UP_FOREIGN, /* not for this service node: never counted */
	UP_STALE,   /* user space has not renewed its lease */
	UP_HEADER,  /* options, fragments, lengths that do not fit */
	UP_TTL,
	UP_VNI,     /* unknown, or held by raw */
	UP_LENGTH,  /* larger than the smallest MTU on the way to a member */
	UP_SENDER,  /* not known, or not any more */
	UP_CHECKSUM, /* one of UDP that nobody has verified, or a wrong one */
	UP_ORDER,    /* behind another of its flow, or maybe one that came before the program did */
	NUM_UPS,
};

/* One member of one VNI. */
struct member {
	__u32 addr;    /* IPv4 address, network order */
	__u32 dest;    /* index in dests in the low 24 bits, flags above */
	__u64 expires; /* CLOCK_MONOTONIC, ns */
	__u64 seen;    /* when it was last seen to send; written here */
	__u32 packets; /* that it sent; written here, wraps around */
	__u32 copies;  /* of these packets; written here, wraps around */
};

/* The way to one VTEP. A hop of another device than 0 is good. */
struct dest {
	__u64 hop; /* MAC address of the next hop in the low 48 bits, index in devices above */
	__u64 why; /* where the device is 0: the drop reason */
};

/* An outgoing device. A record does not change while a hop names it. */
struct device {
	__u32 ifindex;
	__u8 mac[ETH_ALEN];
	__u16 pad[3];
};

/*
 * One VNI. The word has all that must change at once: the number of members (12
 * bits; 0: raw has the VNI), the smallest MTU on the way to them (16 bits), and
 * where they begin (32 bits: segment, index).
 */
struct slot {
	__u64 word;
	__u32 vni;
	__u32 pad;
	__u64 packets, bytes, copies, copy_bytes;
	__u64 drops[NUM_DROPS];
};

struct setting {
	__u64 lease;      /* CLOCK_MONOTONIC, ns: the maps hold until then */
	__u64 learn_hold; /* ns that a learned member lives after a packet */
	__u16 port;       /* that VTEPs send to, network order */
	__u16 dest_port;  /* of copies, network order */
	__u32 arriving;   /* devices in arrivals */
	__u32 overrun;    /* raw does not keep pace */
	__u32 pad;
};

/*
 * What went up of a flow: packets of one source, port and VNI, or others too by
 * chance. A worker of raw does the packets of one flow in order, so it is done with
 * all of them when it is done with the last. Of several flows at once, of packets in
 * pieces, and of those without a stamp, that says nothing: then user space finds out
 * when raw is done with all that came before.
 */
struct flow {
	__u64 own;     /* when a packet went up that had to; CLOCK_MONOTONIC, ns */
	__u64 last;    /* when any did */
	__u64 stamp;   /* of that one, as its socket tells it (SO_TIMESTAMPNS) */
	__u64 reached; /* stamp of the last one that raw is done with; written by user space */
	__u32 of;      /* hash of the flow of the last one */
	__u32 mixed;   /* MIXED, or another value that user space has put in its place */
};

#define MIXED 1 /* the stamps do not tell when raw is done */

/* A packet that user space looks at for loops. */
struct sample {
	__u64 time; /* CLOCK_MONOTONIC, ns */
	__u32 vni;
	__u32 addr;  /* network order */
	__u16 port;  /* network order */
	__u8 ttl;
	__u8 pad;
	__u32 len;   /* of the payload */
	__u8 head[SAMPLE_HEAD]; /* zeroes behind the end of a shorter payload */
};

/* clang describes types that only an inner map or a ring has where something else has them too. */
const struct member *unused_member __attribute__((unused));
const struct sample *unused_sample __attribute__((unused));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct setting);
} settings SEC(".maps");

/* The addresses of this node that VTEPs send to. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SERVICES);
	__type(key, __u32);
	__type(value, __u8);
} services SEC(".maps");

/*
 * Devices that have just got the program, by index. What came in by them before is
 * raw's, and nobody has counted it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ARRIVALS);
	__type(key, __u32);
	__type(value, __u8);
} arrivals SEC(".maps");

/* VNI -> index in slots. Its elements are there from the start, so that none is wanting. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, __u32);
} vnis SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

/* The members of all VNIs, in segments that are made when they are needed. */
struct segment {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SEGMENT_MEMBERS);
	__type(key, __u32);
	__type(value, struct member);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_SEGMENTS);
	__type(key, __u32);
	__array(values, struct segment);
} segments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_DESTS);
	__type(key, __u32);
	__type(value, struct dest);
} dests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_DEVICES);
	__type(key, __u32);
	__type(value, struct device);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NUM_UPS);
	__type(key, __u32);
	__type(value, __u64);
} ups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOWS);
	__type(key, __u32);
	__type(value, struct flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} samples SEC(".maps");

/*
 * What became of one packet: memory of a run, which nobody else looks at. It is in
 * a map because the verifier follows each value that a counter on the stack can have.
 */
struct result {
	__u32 copies;
	__u32 drops[NUM_DROPS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct result);
} results SEC(".maps");
