/* Hide instruction sets from a program, which then runs as on an older CPU, at full speed: for benchmarks/cpu_engines.py.
 *
 *     cc -O2 -shared -fPIC -o lesser_cpu.so benchmarks/lesser_cpu.c
 *     HIDE=avx512 LD_PRELOAD=$PWD/lesser_cpu.so python benchmarks/cpu_engines.py street
 *
 * HIDE=amx: no AMX (Ice Lake, Zen 4). HIDE=avx512: AVX-VNNI stays (Alder Lake). HIDE=vnni: AVX-512 without VNNI (Skylake-X).
 * HIDE=all: AVX2 alone (Haswell to Comet Lake, Zen 2).
 *
 * Linux on x86-64 makes CPUID fault where it is asked to (arch_prctl, "cpuid_fault" in /proc/cpuinfo). The handler asks the CPU and
 * clears the bits. Threads inherit the setting; what ran before this library was loaded has seen the whole CPU. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_CPUID 0x1012

static unsigned hidden_ebx, hidden_ecx, hidden_edx, hidden_eax_1, hidden_edx_1; /* of leaf 7, and of its subleaf 1 */

static void answer(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    if (code[0] != 0x0f || code[1] != 0xa2) { /* a fault of the program's own */
        signal(number, SIG_DFL);
        return;
    }
    (void)info;
    unsigned leaf = registers[REG_RAX], subleaf = registers[REG_RCX], a, b, c, d;
    syscall(SYS_arch_prctl, ARCH_CPUID, 1);
    __cpuid_count(leaf, subleaf, a, b, c, d);
    syscall(SYS_arch_prctl, ARCH_CPUID, 0);
    if (leaf == 7 && subleaf == 0) b &= ~hidden_ebx, c &= ~hidden_ecx, d &= ~hidden_edx;
    if (leaf == 7 && subleaf == 1) a &= ~hidden_eax_1, d &= ~hidden_edx_1;
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void)
{
    const char *hide = getenv("HIDE");
    int level = !hide ? -1 : !strcmp(hide, "amx") ? 1 : !strcmp(hide, "avx512") ? 2 : !strcmp(hide, "vnni") ? 3 : !strcmp(hide, "all") ? 4 : -1;
    if (level < 0) {
        fprintf(stderr, "HIDE is amx, avx512, vnni or all\n");
        _exit(2);
    }
    hidden_edx = 1u << 22 | 1u << 24 | 1u << 25; /* AMX */
    hidden_eax_1 = 1u << 21;
    hidden_edx_1 = 1u << 8;
    if (level == 2 || level == 4) { /* AVX-512, whole; AVX10 */
        hidden_ebx |= 1u << 16 | 1u << 17 | 1u << 21 | 1u << 28 | 1u << 30 | 1u << 31;
        hidden_ecx |= 1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14;
        hidden_edx |= 1u << 2 | 1u << 3 | 1u << 8 | 1u << 23;
        hidden_eax_1 |= 1u << 5;
        hidden_edx_1 |= 1u << 19;
    }
    if (level >= 3) { /* VNNI of both kinds, and what came after it */
        hidden_ecx |= 1u << 11;
        hidden_edx |= 1u << 23;
        hidden_eax_1 |= 1u << 4 | 1u << 5 | 1u << 23;
        hidden_edx_1 |= 1u << 4 | 1u << 5 | 1u << 10;
    }
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    if (syscall(SYS_arch_prctl, ARCH_CPUID, 0)) {
        perror("this CPU or kernel does not let CPUID fault");
        _exit(2);
    }
}
