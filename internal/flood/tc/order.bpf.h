/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */

/* How flows keep their order between this program and raw; a part of flood.bpf.c. */

/*
 * A packet that goes up is replicated later than the next of its flow would be
 * here. So the flow follows it until raw is done with all that went up. Where raw
 * does not keep pace it never has such a moment, and more packets would be lost in
 * its queue: so this long after one that had to go up they are dropped here, until
 * raw is done with those that it has.
 */
#define FLOW_END (1000 * 1000 * 1000LL) /* ns */

static __always_inline int unreached(const struct flow *f)
{
	return (__s64)(f->stamp - *(volatile __u64 *)&f->reached) > 0;
}

static __always_inline int pending(const struct flow *f)
{
	return *(volatile __u32 *)&f->mixed || unreached(f);
}

/* follow notes a packet that goes up to raw. */
static __always_inline int follow(struct __sk_buff *skb, struct work *w, __u32 why)
{
	struct flow *f = w->flow;
	__u64 stamp = skb->tstamp;

	if (f) {
		if (stamp == 0 || skb->gso_size)
			f->mixed = MIXED;
		if (!unreached(f))
			f->reached = stamp - 1; /* the clock may have been set back */
		else if (f->of != w->hash)
			f->mixed = MIXED;
		else if (f->stamp == stamp && stamp != 0)
			return UP; /* it has been at the hook of a device below */
		f->of = w->hash;
		f->last = w->now;
		/* Who sees it sees the rest: with its result the operation is a barrier. */
		__u64 before = __sync_lock_test_and_set(&f->stamp, stamp);
		barrier_var(before);
	}
	return up(why);
}

/* leave is follow for a packet that has to go up by itself, so that its flow follows. */
static __noinline int leave(struct __sk_buff *skb, struct work *w, __u32 why)
{
	if (w->flow)
		w->flow->own = w->now;
	return follow(skb, w, why);
}
