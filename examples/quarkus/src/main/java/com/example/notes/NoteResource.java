package com.example.notes;

import jakarta.ws.rs.BadRequestException;
import jakarta.ws.rs.DELETE;
import jakarta.ws.rs.GET;
import jakarta.ws.rs.NotFoundException;
import jakarta.ws.rs.POST;
import jakarta.ws.rs.PUT;
import jakarta.ws.rs.Path;
import java.sql.SQLException;
import java.util.List;
import org.jboss.resteasy.reactive.ResponseStatus;
import org.jboss.resteasy.reactive.RestPath;

@Path("/notes")
public class NoteResource {
    private final Notes notes;

    NoteResource(Notes notes) {
        this.notes = notes;
    }

    @GET
    public List<Note> list() throws SQLException {
        return notes.all();
    }

    @GET
    @Path("/{id}")
    public Note get(@RestPath long id) throws SQLException {
        return notes.find(id).orElseThrow(NotFoundException::new);
    }

    @POST
    @ResponseStatus(201)
    public Note create(Note note) throws SQLException {
        return notes.add(checked(note));
    }

    @PUT
    @Path("/{id}")
    public Note update(@RestPath long id, Note note) throws SQLException {
        return notes.change(new Note(id, checked(note))).orElseThrow(NotFoundException::new);
    }

    @DELETE
    @Path("/{id}")
    public void delete(@RestPath long id) throws SQLException {
        notes.remove(id);
    }

    private static String checked(Note note) {
        if (note == null || note.text() == null || note.text().isBlank()) {
            throw new BadRequestException();
        }
        return note.text();
    }
}
