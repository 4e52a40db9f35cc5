/* A plugin of QEMU's user mode that counts the instructions of the program it runs:
 *   cc -shared -fPIC -O2 -DVERSION=1 -o instructions.so benches/instructions.c
 *   qemu-aarch64 -plugin ./instructions.so PROGRAM
 * Debian's packages have no qemu-plugin.h, so what is used of it is declared here: it has been the same in all versions of
 * the interface, and VERSION is the one that QEMU asks for. Counts for one thread. */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define EXPORT __attribute__((visibility("default")))
struct qemu_plugin_tb;
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t, void (*)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_atexit_cb(uint64_t, void (*)(uint64_t, void *), void *);

EXPORT int qemu_plugin_version = VERSION;
static uint64_t count;

static void executed(unsigned cpu, void *instructions) { count += (uintptr_t)instructions; }

static void translated(uint64_t id, struct qemu_plugin_tb *block) {
  qemu_plugin_register_vcpu_tb_exec_cb(block, executed, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void ended(uint64_t id, void *data) { fprintf(stderr, "instructions: %" PRIu64 "\n", count); }

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, ended, NULL);
  return 0;
}
