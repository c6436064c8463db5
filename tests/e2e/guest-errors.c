/* SPDX-License-Identifier: GPL-2.0-or-later */
/* In the guest: every misuse gets its errno and a sentence, and the VM goes on. Ends 0 if all did. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sf.h>

static int failures;

static void expect(const char *what, int got, int want)
{
	int number = errno;

	if (got == -1 && number == want && *sf_error())
		return;
	failures++;
	printf("%s: returned %d, errno %s, \"%s\"; wanted %s\n", what, got, strerrorname_np(number), sf_error(),
	       strerrorname_np(want));
}

/* A clone that tries what only a parent may, and reports by its status. */
static void be_wrong_clone(void)
{
	expect("sf_clone in a clone", sf_clone(1), ENOTSUP);
	expect("sf_join in a clone", sf_join(), ECHILD);
	sf_exit(failures);
}

static void *clone_in_thread(void *arg)
{
	int id = sf_clone(1);

	if (id > 0)
		sf_exit(0);
	*(int *)arg = id < 0 ? errno : 0;
	return NULL;
}

/* Two threads clone at once: one is told EBUSY, or both came through one after the other. */
static void clone_twice_at_once(void)
{
	int first = -1, second = -1;
	pthread_t a, b;

	pthread_create(&a, NULL, clone_in_thread, &first);
	pthread_create(&b, NULL, clone_in_thread, &second);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	if ((first != 0 && first != EBUSY) || (second != 0 && second != EBUSY) || (first && second)) {
		failures++;
		printf("two clones at once: %s and %s\n", strerror(first), strerror(second));
	}
	while (!sf_join())
		;
}

int main(void)
{
	struct sf_status status;
	int id, ticket, checkpoint;

	expect("sf_clone(0)", sf_clone(0), EINVAL);
	expect("sf_clone(100000)", sf_clone(100000), EINVAL);
	expect("sf_join without clones", sf_join(), ECHILD);
	expect("sf_clone_ticket of none", sf_clone_ticket(999), ENOENT);
	expect("sf_join_ticket of none", sf_join_ticket(999), ENOENT);
	expect("sf_ticket_free of none", sf_ticket_free(999), ENOENT);
	expect("sf_create_clones of none", sf_create_clones(999, 999), ENOENT);
	expect("sf_set_result in the parent", sf_set_result("x", 1), EPERM);
	expect("sf_status of none", sf_status(1, &status), ECHILD);
	expect("vcpus that differ", sf_request_ticket(1, &(struct sf_hints){ sizeof(struct sf_hints), 3, 0, 0 }),
	       EINVAL);
	expect("more at least than there is room for",
	       sf_request_ticket(500, &(struct sf_hints){ sizeof(struct sf_hints), 0, 0, 500 }), ENOSPC);

	ticket = sf_request_ticket(1, NULL);
	id = sf_clone_ticket(ticket);
	if (id > 0)
		be_wrong_clone();
	expect("a ticket used twice", sf_clone_ticket(ticket), EBUSY);
	if (sf_join_ticket(ticket) || sf_status_ticket(ticket, 1, &status) || status.state != SF_STATE_EXITED ||
	    status.status) {
		failures++;
		printf("the clone found %d wrong (%s)\n", status.status, status.reason);
	}
	expect("a clone that the ticket has not", sf_status_ticket(ticket, 2, &status), ENOENT);
	if (sf_ticket_free(ticket)) {
		failures++;
		printf("sf_ticket_free: %s\n", sf_error());
	}
	clone_twice_at_once();
	id = sf_checkpoint_parent(&checkpoint);
	if (id || sf_checkpoint_free(checkpoint)) {
		failures++;
		printf("a checkpoint kept and dropped: %d, %s\n", id, sf_error());
	}
	expect("a checkpoint dropped twice", sf_checkpoint_free(checkpoint), ENOENT);
	printf("%d failures\n", failures);
	fflush(stdout);
	if (!failures) {
		puts("all told");
		sf_exit(7);	/* in a VM that was booted: this process alone ends */
	}
	return 1;
}
