// SPDX-License-Identifier: BSD-2-Clause
/* Where the words about softirqs lie, from BTF as each generation of kernels has it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <bpf/btf.h>
#include <cmocka.h>

#include "recorder/kernel_features.h"

#define RQ	   4096
#define RAISED	   640 /* of the variable that has the word */
#define KSTAT	   8192
#define OF_HOT	   30 /* of the word in pcpu_hot, in a struct in a union */
#define OF_STAT	   4  /* in irq_stat, behind another one */
#define OF_HANDLED 8  /* of the counts in kernel_stat */

/* word: the variable that has the raised softirqs, NULL: none. irq_stat is there all the same, without it. */
static struct btf *kernel_with(const char *word)
{
	struct btf *btf = btf__new_empty();
	int number = btf__add_int(btf, "unsigned int", 4, 0), hot, fields, either, of_irqs, stat, section, var[4] = {}, n = 0;

	assert_true(number > 0);
	fields = btf__add_struct(btf, NULL, 64);
	btf__add_field(btf, "current_task", number, 0, 0);
	btf__add_field(btf, "softirq_pending", number, (OF_HOT - 8) * 8, 0);
	either = btf__add_union(btf, NULL, 64);
	btf__add_field(btf, "pad", number, 0, 0);
	btf__add_field(btf, NULL, fields, 0, 0);
	hot = btf__add_struct(btf, "pcpu_hot", 72);
	btf__add_field(btf, "first", number, 0, 0);
	btf__add_field(btf, NULL, either, 8 * 8, 0);
	of_irqs = btf__add_struct(btf, NULL, 64);
	btf__add_field(btf, "kvm_cpu_l1tf_flush_l1d", number, 0, 0);
	if (word && !strcmp(word, "irq_stat"))
		btf__add_field(btf, "__softirq_pending", number, OF_STAT * 8, 0);
	of_irqs = btf__add_typedef(btf, "irq_cpustat_t", of_irqs);
	stat = btf__add_struct(btf, "kernel_stat", 48);
	btf__add_field(btf, "irqs_sum", number, 0, 0);
	btf__add_field(btf, "softirqs", number, OF_HANDLED * 8, 0);
	var[n++] = btf__add_var(btf, "runqueues", BTF_VAR_GLOBAL_ALLOCATED, number);
	var[n++] = btf__add_var(btf, "kstat", BTF_VAR_GLOBAL_ALLOCATED, stat);
	var[n++] = btf__add_var(btf, "irq_stat", BTF_VAR_GLOBAL_ALLOCATED, of_irqs);
	if (word && strcmp(word, "irq_stat"))
		var[n++] = btf__add_var(btf, word, BTF_VAR_GLOBAL_ALLOCATED, hot);
	section = btf__add_datasec(btf, ".data..percpu", 16384);
	assert_true(section > 0);
	if (word && strcmp(word, "irq_stat"))
		btf__add_datasec_var_info(btf, var[3], RAISED, 64);
	btf__add_datasec_var_info(btf, var[0], RQ, 64);
	btf__add_datasec_var_info(btf, var[1], KSTAT, 48);
	btf__add_datasec_var_info(btf, var[2], word && !strcmp(word, "irq_stat") ? RAISED : 12288, 64);
	return btf;
}

static void test_softirq_words(void **state)
{
	static const struct {
		const char *word;
		int64_t in_it;
	} kernels[] = { { "irq_stat", OF_STAT }, { "pcpu_hot", OF_HOT }, { "__softirq_pending", 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		struct btf *btf = kernel_with(kernels[i].word);
		int64_t raised = 0, handled = 0;

		assert_true(kernel_softirq_words(btf, &raised, &handled));
		assert_int_equal(raised, RAISED + kernels[i].in_it - RQ);
		assert_int_equal(handled, KSTAT + OF_HANDLED - RQ);
		btf__free(btf);
	}
}

static void test_no_softirq_words(void **state)
{
	struct btf *without = kernel_with(NULL), *empty = btf__new_empty();
	int64_t raised = 7, handled = 7;

	(void)state;
	assert_false(kernel_softirq_words(without, &raised, &handled));
	assert_false(kernel_softirq_words(empty, &raised, &handled)); /* no per-CPU variables at all: 5.10 */
	assert_true(raised == 7 && handled == 7);
	btf__free(without);
	btf__free(empty);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_softirq_words),
		cmocka_unit_test(test_no_softirq_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
