package com.example.notes;

/** A row of the table; in a request the id is left out. */
public record Note(Long id, String text) {}
