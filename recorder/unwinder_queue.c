// SPDX-License-Identifier: BSD-2-Clause
/* From thread to thread, in order. */
#include "recorder/unwinder_impl.h"

void unwinder_queue_init(struct queue *q)
{
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->filled, NULL);
}

bool unwinder_queue_put(struct queue *q, void *item)
{
	bool room;

	pthread_mutex_lock(&q->lock);
	room = q->head - q->tail < QUEUE;
	if (room)
		q->item[q->head++ % QUEUE] = item;
	pthread_cond_signal(&q->filled);
	pthread_mutex_unlock(&q->lock);
	return room;
}

void *unwinder_queue_take(struct queue *q, bool wait)
{
	void *item = NULL;

	pthread_mutex_lock(&q->lock);
	while (wait && q->head == q->tail)
		pthread_cond_wait(&q->filled, &q->lock);
	if (q->head != q->tail)
		item = q->item[q->tail++ % QUEUE];
	pthread_mutex_unlock(&q->lock);
	return item;
}

uint32_t unwinder_queue_length(struct queue *q)
{
	uint32_t n;

	pthread_mutex_lock(&q->lock);
	n = q->head - q->tail;
	pthread_mutex_unlock(&q->lock);
	return n;
}
