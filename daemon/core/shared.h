/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Numbers and flags that one thread writes and others only read, to show them: a plain load or store of the
 * processor, no lock, no order among them. The writer may read its own as any variable.
 */
#define SHARED_SET(var, value) __atomic_store_n(&(var), (value), __ATOMIC_RELAXED)
#define SHARED_ADD(var, by)    SHARED_SET(var, (var) + (by))
#define SHARED_SUB(var, by)    SHARED_SET(var, (var) - (by))
#define SHARED_GET(var)        __atomic_load_n(&(var), __ATOMIC_RELAXED)
