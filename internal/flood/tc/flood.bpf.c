//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0

/*
 * The kernel side of the engine tc: it replicates the packets of known VNIs in
 * the ingress hook. What it does not know, or must not decide by itself, goes up
 * to the engine raw as if this program were not there; so a packet is
 * replicated either here as a whole, or by raw as a whole.
 */

#include "maps.bpf.h"

/* A verdict is the same number for TCX and for a clsact filter. */
#define UP   TC_ACT_UNSPEC /* TCX_NEXT: to other programs, and to the stack */
#define DONE TC_ACT_SHOT   /* TCX_DROP: TCX takes TC_ACT_STOLEN for TCX_NEXT */

static __always_inline int up(__u32 why)
{
	__u64 *n = bpf_map_lookup_elem(&ups, &why);

	if (n)
		(*n)++;
	return UP;
}

/* What the loops over members work with. */
struct work {
	struct __sk_buff *skb;
	void *members; /* the segment of the VNI's members */
	__u64 now;
	__u32 base;    /* index of the first member */
	__u32 saddr;   /* of the sender, network order */
	__u32 sender;  /* index of the sender behind base */
	__u32 flags;   /* of the sender */
	__u32 sum;     /* of the IPv4 header without its destination */
	struct result *result;
	struct flow *flow;
	__u32 hash; /* of the flow */
};

#include "order.bpf.h"

static __always_inline struct member *member_at(struct work *w, __u32 i)
{
	__u32 k = w->base + i;

	return bpf_map_lookup_elem(w->members, &k);
}

/* find_sender ends at the member that sent the packet. */
static __always_inline long find_sender(__u32 i, struct work *w)
{
	struct member *m = member_at(w, i);

	if (!m)
		return 1;
	if (m->addr != w->saddr)
		return 0;
	if (m->expires > w->now) {
		w->sender = i;
		w->flags = m->dest >> 24;
	}
	return 1;
}

static __always_inline void dropped(struct result *r, __u64 why)
{
	if (why == DROP_UNREACHABLE)
		r->drops[DROP_UNREACHABLE]++;
	else if (why == DROP_REFUSED)
		r->drops[DROP_REFUSED]++;
	else
		r->drops[DROP_UNRESOLVED]++;
}

/* copy sends the copy for one member. */
static __always_inline long copy(__u32 i, struct work *w)
{
	struct __sk_buff *skb = w->skb;
	struct member *m = member_at(w, i);

	if (!m)
		return 1;
	__u32 addr = m->addr;
	if (addr == w->saddr || m->expires <= w->now)
		return 0;
	__u32 k = m->dest & 0xffffff;
	struct dest *d = bpf_map_lookup_elem(&dests, &k);
	if (!d)
		return 0;
	__u64 hop = *(volatile __u64 *)&d->hop;
	k = hop >> 48;
	if (k == 0) {
		dropped(w->result, d->why);
		return 0;
	}
	struct device *out = bpf_map_lookup_elem(&devices, &k);
	if (!out)
		return 0;

	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > end)
		return 1;
	__u8 *to = eth->h_dest;
	to[0] = hop, to[1] = hop >> 8, to[2] = hop >> 16;
	to[3] = hop >> 24, to[4] = hop >> 32, to[5] = hop >> 40;
	__builtin_memcpy(eth->h_source, out->mac, ETH_ALEN);
	ip->daddr = addr;
	__u32 sum = w->sum + (addr & 0xffff) + (addr >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~((sum & 0xffff) + (sum >> 16));
	/*
	 * NET_XMIT_CN counts as lost too: it is what a queue says that dropped this
	 * copy or, for it, one before, and what a device says that is down.
	 */
	if (bpf_clone_redirect(skb, out->ifindex, 0))
		w->result->drops[DROP_BLOCKED]++;
	else
		w->result->copies++;
	return 0;
}

/* sum16 adds up the ten words of an IPv4 header without options (RFC 1071). */
static __always_inline __u32 sum16(const struct iphdr *ip)
{
	const __u16 *word = (const void *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < sizeof(*ip) / 2; i++)
		sum += word[i];
	return sum;
}

/*
 * verified tells whether a datagram's checksum is known to be right. The device or
 * the kernel before us may have verified it, the outermost first
 * (CHECKSUM_UNNECESSARY), or have told the sum of all from the IP header on
 * (CHECKSUM_COMPLETE), of which that header's share is 0. Else nobody has, or it is
 * yet to be computed, as a virtual device leaves it (CHECKSUM_PARTIAL).
 */
static __always_inline int verified(struct __sk_buff *skb, const struct iphdr *ip, const struct udphdr *udp)
{
	if (bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY) >= 0)
		return 1;
	__s64 told = bpf_csum_update(skb, 0);
	if (told < 0)
		return 0;
	__u64 sum = (__u64)told + ip->saddr + ip->daddr + bpf_htons(IPPROTO_UDP) + udp->len;
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

/*
 * change16 stores a word of the UDP header. The IP header's sum stays the same
 * whatever changes in it; this alone changes that of the packet, which the device
 * may have told.
 */
static __always_inline void change16(struct __sk_buff *skb, __be16 *p, __be16 v)
{
	bpf_csum_update(skb, v + (__u16)~*p);
	*p = v;
}

/*
 * look hands one packet in 16, chosen by its bytes, to user space. A packet that
 * comes back is chosen again.
 */
static __always_inline void look(struct __sk_buff *skb, struct work *w, __u32 vni, __u32 len, __u16 port, __u8 ttl)
{
	__u64 head[SAMPLE_HEAD / 8] = {}, hash = len;
	__u32 n = len < SAMPLE_HEAD ? len : SAMPLE_HEAD;

	/* The verifier of Linux 6.1 takes bounds from comparisons of n itself alone. */
	barrier_var(n);
	if (n < VXLAN_LEN || n > SAMPLE_HEAD || bpf_skb_load_bytes(skb, HEAD - VXLAN_LEN, head, n))
		return;
#pragma unroll
	for (int i = 0; i < SAMPLE_HEAD / 8; i++) {
		hash = (hash ^ head[i]) * 0x9e3779b97f4a7c15ULL; /* 2^64 / golden ratio */
		hash ^= hash >> 32;
	}
	/* Each second, about, has another choice. */
	if (((hash + (w->now >> 30)) & SAMPLE_MASK) != 0)
		return;
	struct sample *s = bpf_ringbuf_reserve(&samples, sizeof(*s), 0);
	if (!s)
		return;
	s->time = w->now;
	s->vni = vni;
	s->addr = w->saddr;
	s->port = port;
	s->ttl = ttl;
	s->pad = 0;
	s->len = len;
	__builtin_memcpy(s->head, head, SAMPLE_HEAD);
	bpf_ringbuf_submit(s, BPF_RB_NO_WAKEUP);
}

/*
 * extend has a member live until a time at least. What user space stores
 * meanwhile wins: it knows of this packet soon, and of more.
 */
static __always_inline void extend(struct member *m, __u64 until)
{
	__u64 expires = *(volatile __u64 *)&m->expires;

	if (expires < until)
		__sync_val_compare_and_swap(&m->expires, expires, until);
}

/*
 * EACH calls a function for one member after the other, until it returns 1.
 * Without bpf_loop the verifier goes through each step, so there are fewer.
 */
#ifdef BOUNDED
#define EACH(n, fn, w)                                           \
	for (__u32 i = 0; i < BOUNDED && i < (n) && !fn(i, w); i++)  \
		;
#else
#define EACH(n, fn, w) bpf_loop(n, fn, w, 0)
#endif

SEC("tc")
int flood(struct __sk_buff *skb)
{
	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return UP;

	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	if (data + HEAD > end) {
		if (skb->len < HEAD || bpf_skb_pull_data(skb, HEAD))
			return UP;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
		if (data + HEAD > end)
			return UP;
	}
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	__u8 *vxlan = (void *)(udp + 1);

	__u32 zero = 0;
	struct setting *set = bpf_map_lookup_elem(&settings, &zero);
	if (!set || eth->h_proto != bpf_htons(ETH_P_IP) || ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_UDP || udp->dest != set->port)
		return UP;
	__u32 daddr = ip->daddr;
	if (!bpf_map_lookup_elem(&services, &daddr))
		return UP;

	struct work w = { .skb = skb, .now = bpf_ktime_get_ns(), .saddr = ip->saddr };
	__u32 vni = vxlan[4] << 16 | vxlan[5] << 8 | vxlan[6];
	w.hash = (w.saddr ^ (__u32)udp->source << 8 ^ vni * 0x85ebca6b) * 0x9e3779b1;
	__u32 k = w.hash >> 16 & (FLOWS - 1);
	w.flow = bpf_map_lookup_elem(&flows, &k);
	if (set->lease <= w.now)
		return leave(skb, &w, UP_STALE);
	k = skb->ifindex;
	if (set->arriving && bpf_map_lookup_elem(&arrivals, &k))
		return leave(skb, &w, UP_ORDER);
	__u32 size = bpf_ntohs(ip->tot_len), len = bpf_ntohs(udp->len);
	__u32 sum = sum16(ip);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	if (ip->frag_off & bpf_htons(FRAGMENT) || sum != 0xffff || size != sizeof(*ip) + len ||
	    size != skb->len - ETH_HLEN || len < sizeof(*udp) + VXLAN_LEN || skb->gso_size ||
	    !(vxlan[0] & VXLAN_I))
		return leave(skb, &w, UP_HEADER);
	__u8 ttl = ip->ttl;
	if (ttl <= 1)
		return leave(skb, &w, UP_TTL);
	len -= sizeof(*udp);

	__u32 *index = bpf_map_lookup_elem(&vnis, &vni);
	if (!index)
		return leave(skb, &w, UP_VNI);
	k = *index;
	struct slot *slot = bpf_map_lookup_elem(&slots, &k);
	/* An element of a hash may be another one's by the time it is read. */
	if (!slot || slot->vni != vni)
		return leave(skb, &w, UP_VNI);
	__u64 word = *(volatile __u64 *)&slot->word;
	__u32 n = word & 0xfff;
	if (n == 0)
		return leave(skb, &w, UP_VNI);
	if (size > (word >> 12 & 0xffff))
		return leave(skb, &w, UP_LENGTH);
	w.base = word >> 28 & 0xffff;
	k = word >> 44 & 0xffff;
	w.members = bpf_map_lookup_elem(&segments, &k);
	if (!w.members)
		return leave(skb, &w, UP_VNI);

	EACH(n, find_sender, &w);
	if (!(w.flags & MEMBER_KNOWN))
		return leave(skb, &w, UP_SENDER);
	if (udp->check != 0 && !verified(skb, ip, udp))
		return leave(skb, &w, UP_CHECKSUM);

	if (w.flow && pending(w.flow)) {
		/* Another CPU may have stored a time after ours. */
		if (!set->overrun || (__s64)(w.now - w.flow->own) < FLOW_END)
			return follow(skb, &w, UP_ORDER);
		__sync_fetch_and_add(&slot->drops[DROP_OVERRUN], 1);
		return DONE;
	}

	struct result *r = bpf_map_lookup_elem(&results, &zero);
	if (!r)
		return UP;
	__builtin_memset(r, 0, sizeof(*r));
	w.result = r;
	look(skb, &w, vni, len, udp->source, ttl);

	/* What all copies have in common. DF is never set: the answer would go to the VTEP. */
	ip->ttl = ttl - 1;
	ip->frag_off = 0;
	ip->id = bpf_get_prandom_u32();
	ip->check = 0;
	ip->daddr = 0;
	if (udp->dest != set->dest_port)
		change16(skb, &udp->dest, set->dest_port);
	if (udp->check != 0)
		change16(skb, &udp->check, 0);
	w.sum = sum16(ip);
	EACH(n, copy, &w);

	struct member *m = member_at(&w, w.sender);
	if (m && m->addr == w.saddr) {
		m->seen = w.now;
		if (w.flags & MEMBER_LEARNED)
			extend(m, w.now + set->learn_hold);
		__sync_fetch_and_add(&m->packets, 1);
		__sync_fetch_and_add(&m->copies, r->copies);
	}
	__sync_fetch_and_add(&slot->packets, 1);
	__sync_fetch_and_add(&slot->bytes, len);
	__sync_fetch_and_add(&slot->copies, r->copies);
	__sync_fetch_and_add(&slot->copy_bytes, (__u64)len * r->copies);
	__u32 others = r->copies;
#pragma unroll
	for (int i = DROP_UNREACHABLE; i <= DROP_BLOCKED; i++) {
		others += r->drops[i];
		if (r->drops[i])
			__sync_fetch_and_add(&slot->drops[i], r->drops[i]);
	}
	if (others == 0)
		__sync_fetch_and_add(&slot->drops[DROP_NO_MEMBER], 1);
	return DONE;
}

char _license[] SEC("license") = "GPL";
