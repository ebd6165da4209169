package com.example.notes;

import jakarta.enterprise.context.ApplicationScoped;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** The table of notes. */
@ApplicationScoped
public class Notes {
    private final Database database;

    Notes(Database database) {
        this.database = database;
    }

    public List<Note> all() throws SQLException {
        return run("SELECT id, text FROM note ORDER BY id");
    }

    public Optional<Note> find(long id) throws SQLException {
        return run("SELECT id, text FROM note WHERE id = ?", id).stream().findFirst();
    }

    public Note add(String text) throws SQLException {
        return run("INSERT INTO note (text) VALUES (?) RETURNING id, text", text).get(0);
    }

    public Optional<Note> change(Note note) throws SQLException {
        return run("UPDATE note SET text = ? WHERE id = ? RETURNING id, text", note.text(), note.id()).stream().findFirst();
    }

    public void remove(long id) throws SQLException {
        run("DELETE FROM note WHERE id = ? RETURNING id, text", id);
    }

    private List<Note> run(String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = database.connection().prepareStatement(sql)) {
            for (int index = 0; index < values.length; index++) {
                statement.setObject(index + 1, values[index]);
            }
            List<Note> found = new ArrayList<>();
            ResultSet rows = statement.executeQuery();
            while (rows.next()) {
                found.add(new Note(rows.getLong(1), rows.getString(2)));
            }
            return found;
        }
    }
}
